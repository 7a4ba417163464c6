#!/bin/sh
# Installs Chromium, PostgreSQL and Prometheus with Debian's apt when they are missing; fails loudly when it cannot.
set -eu
missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v prometheus >/dev/null 2>&1 || missing="$missing prometheus"
[ -n "$missing" ] || exit 0
echo "Installing Debian packages:$missing"
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
# shellcheck disable=SC2086 - a list of words
$as_root apt-get install -yq --no-install-recommends $missing
