#!/usr/bin/env bash
# Unpacks Debian's SoftHSM (a PKCS#11 token in software) below .build, without root and without installing it.
# Prints the paths of its library and of softhsm2-util. `scripts/fetch_softhsm.sh [FOLDER]`; exit code 1 where
# apt cannot download it.
set -euo pipefail
folder=${1:-"$(cd "$(dirname "$0")/.." && pwd)/.build/softhsm"}
packages=(libsofthsm2 softhsm2 softhsm2-common)

answer_from() {
  local library util
  library=$(find "$1"/usr/lib -path '*softhsm/libsofthsm2.so' 2>/dev/null | head -n 1 || true)
  util=$(find "$1"/usr/bin -name softhsm2-util 2>/dev/null || true)
  if [ -n "$library" ] && [ -n "$util" ]; then printf '%s\n' "$library" "$util"; exit 0; fi
}

answer_from ""
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
answer_from "$folder/root"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "SoftHSM is not installed, and there is no apt" >&2; exit 1; }
draft=$(mktemp -d "$folder/draft.XXXXXX")
trap 'rm -rf "$draft" "$folder/apt"' EXIT
cd "$draft"
own_lists=(-o "Dir::State=$folder/apt" -o "Dir::Cache=$folder/apt")
apt-get -qq download "${packages[@]}" >/dev/null 2>&1 || {
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial"
  apt-get -qq "${own_lists[@]}" update >/dev/null 2>&1 || true
  apt-get -qq "${own_lists[@]}" download "${packages[@]}" >/dev/null 2>&1
} || { echo "SoftHSM is not installed, and apt cannot download it" >&2; exit 1; }
for package in ./*.deb; do dpkg-deb -x "$package" root; done
mv root "$folder/root"
answer_from "$folder/root"
echo "Debian's package has no libsofthsm2.so" >&2
exit 1
