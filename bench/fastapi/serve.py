"""Serves app.py with uvicorn until standard input ends: python3 serve.py PORT WORKERS

The benchmark holds the other end of that input, so this and its workers end with it, however it ends.
"""

import os
import signal
import sys
import threading

import uvicorn


def end_with_input():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    uvicorn.run(
        "app:app",
        app_dir=os.path.dirname(os.path.abspath(__file__)),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
    )
