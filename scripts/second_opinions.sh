#!/usr/bin/env bash
# Validators of other people, for the tests: npm's asl-validator, for definitions of AWS Step Functions.
set -euo pipefail
home=${TEST_SECOND_OPINIONS_HOME:-$HOME/.cache/test-second-opinions}
[ -x "$home/node_modules/.bin/asl-validator" ] && exit 0
if ! command -v npm >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq nodejs npm >/dev/null
fi
mkdir -p "$home"
npm install --silent --no-audit --no-fund --prefix "$home" asl-validator@4.0.0 >/dev/null
