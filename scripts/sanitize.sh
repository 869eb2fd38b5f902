#!/usr/bin/env bash
# Builds the compiled modules with the address and undefined-behaviour sanitizers, aside, and runs their tests so.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
compiler=${CXX:-c++}
aside=.build/sanitized
rm -rf "$aside"
mkdir -p "$aside"
cp -r src/airberg "$aside/airberg"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
build() {
  "$compiler" -std=c++17 -O1 -g -fPIC -pthread -shared -fvisibility=hidden -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined "-I$include" "$1" -o "$aside/airberg/$2" -ldl
}
build native/module.cpp columns/_records.abi3.so
build native/casts.cpp columns/_casts.abi3.so
build native/keys.cpp lake/_keys.abi3.so
build native/cipher.cpp keys/_cipher.abi3.so
preload="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
# The interpreter itself leaves memory to the end of the process, so leaks are not looked for.
LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0 PYTHONPATH="$aside" \
  "$python" -m pytest -q -p no:cacheprovider tests/unit/columns/test_columns_native.py tests/unit/columns/test_columns_batch.py \
  tests/unit/lake/test_lake_keyfilter.py tests/unit/keys/test_keys_arrays.py tests/unit/keys/test_keys_compiled.py \
  tests/unit/columns/test_columns_canonical.py tests/unit/columns/test_columns_cast_arrays.py \
  tests/unit/columns/test_columns_protection.py
