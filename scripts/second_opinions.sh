#!/usr/bin/env bash
# Validators of other people, for the tests: npm's asl-validator for definitions of AWS Step Functions, and the schemas
# of @kubernetes-models/argo-workflows for objects of Argo.
set -euo pipefail
home=${TEST_SECOND_OPINIONS_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-second-opinions}
if [ -x "$home/node_modules/.bin/asl-validator" ] && [ -d "$home/node_modules/@kubernetes-models/argo-workflows" ]; then
  exit 0
fi
if ! command -v npm >/dev/null; then
  if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq npm >/dev/null
fi
mkdir -p "$home"
npm install --silent --no-audit --no-fund --prefix "$home" asl-validator@4.0.0 @kubernetes-models/argo-workflows@2.0.0 >/dev/null
