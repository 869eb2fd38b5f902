#!/usr/bin/env bash
# Makes what `make test-spark` needs, in .build/spark: Spark, and the Iceberg runtime and a JDBC driver for it.
# Exit code 3 and a sentence: something is not to be had here. Any other failure is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
aside=.build/spark
done=$aside/.made-$(cat requirements/spark.txt requirements/spark-jars.txt | sha256sum | cut -c1-16)
[ -e "$done" ] && exit 0

lacking() { echo "$*" >&2; exit 3; }

java=$(java -version 2>&1 | sed -nE '1s/.*version "([0-9]+).*/\1/p') || lacking "there is no Java"
[ "${java:-0}" -ge 17 ] || lacking "Java 17 or newer is needed, found ${java:-none}"
command -v mvn >/dev/null || lacking "there is no Maven"

rm -rf "$aside"
mkdir -p "$aside/jars"
while read -r sum artifact; do
  IFS=: read -r _ name version <<<"$artifact"
  mvn -q -B dependency:copy "-Dartifact=$artifact" "-DoutputDirectory=$PWD/$aside/jars" >"$aside/maven.log" 2>&1 ||
    lacking "Maven cannot get $artifact: $(grep -m1 ERROR "$aside/maven.log" | cut -c1-200)"
  echo "$sum  $aside/jars/$name-$version.jar" | sha512sum --quiet --check -
done < <(grep -v '^#' requirements/spark-jars.txt)

python=$(.venv/bin/python -c 'import sys; print(sys._base_executable)')
.build/uv/bin/uv venv -q --clear --python "$python" "$aside/env"
.build/uv/bin/uv pip install -q --python "$aside/env/bin/python" --require-hashes -r requirements/spark.txt 2>"$aside/uv.log" ||
  lacking "PySpark cannot be installed: $(tail -n1 "$aside/uv.log" | cut -c1-200)"
touch "$done"
