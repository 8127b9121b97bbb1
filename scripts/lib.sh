# What the scripts share; sourced, not run.

say() { printf '==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# A Rust toolchain with the target that handlers are compiled to, and a C compiler.
need_toolchain() {
    command -v rustup >/dev/null 2>&1 || die "rustup is not installed." \
        "It brings the Rust toolchain that rust-toolchain.toml names; see https://rustup.rs"
    command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
        die "no C compiler was found; some crates build C code." \
            "Debian, Ubuntu: apt install build-essential.  Fedora: dnf install gcc.  macOS: xcode-select --install"
    if ! rustup target list --installed 2>/dev/null | grep -qx wasm32-wasip2; then
        say "installing the Rust target wasm32-wasip2 (what handlers are compiled to)"
        rustup target add wasm32-wasip2 ||
            die "the target wasm32-wasip2 could not be installed." \
                "Is the network there? Then: rustup target add wasm32-wasip2"
    fi
}

# Room for what is built, in GiB. A linker that runs out of it ends with a bus error, which says nothing.
need_room() {
    folder=${CARGO_TARGET_DIR:-target}
    # What is there already need not be built.
    used=$(du -sk "$folder" 2>/dev/null | cut -f1)
    mkdir -p "$folder"
    free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
    [ $((free + ${used:-0})) -ge $(($1 * 1048576)) ] || die "there is too little room on the disk: what is built takes up to $1 GiB, and $((free / 1048576)) are free." \
        "Free some, or set CARGO_TARGET_DIR to a folder on another disk."
}

# Python with pip, into $python: what comes from PyPI comes through it. Arguments: what to say where there is none.
need_python() {
    for candidate in "${PYTHON:-}" python3 python; do
        if [ -n "$candidate" ] && "$candidate" -m pip --version >/dev/null 2>&1; then
            python=$candidate
            return
        fi
    done
    die "no Python with pip was found." \
        "Install it (Debian, Ubuntu: apt install python3-pip), or set PYTHON=…" "$@"
}

# A package of Debian's, where not all of its programs are on the PATH. Arguments: the package, its programs, their version.
need_debian() {
    package=$1 programs=$2 version=$3 missing_program=
    for program in $programs; do
        command -v "$program" >/dev/null 2>&1 || missing_program=$program
    done
    if [ -z "$missing_program" ]; then
        say "$programs: on the PATH"
        return
    fi
    command -v apt-get >/dev/null 2>&1 || die "$missing_program was not found, and there is no apt-get to bring it." \
        "Put $programs, of version $version or later, on the PATH."
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    say "installing Debian's package $package ($programs)"
    $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        die "the package $package could not be installed." "Put $programs on the PATH yourself."
}

# A handler's build, in the folder that all handlers are built into.
built=target/wasm32-wasip2/handler
build_handler() {
    CARGO_TARGET_DIR=target cargo build --quiet --locked --target wasm32-wasip2 --profile handler "$@"
}

# Copies a file only if it changed, so that what depends on its date is not redone, and says its size.
place() {
    mkdir -p "$(dirname "$2")"
    cmp -s "$1" "$2" || cp "$1" "$2"
    printf '%8d bytes  %s\n' "$(wc -c <"$2")" "$2"
}
