;; Imports what no handler is granted.
(component
  (import "wasi:http/outgoing-handler@0.2.6" (instance
    (export "handle" (func))))
  (import "wasi:sockets/tcp@0.2.6" (instance
    (export "connect" (func))))
  (import "acme:secrets/vault@1.0.0" (instance
    (export "open" (func)))))
