#!/bin/sh
# Installs Chromium, PostgreSQL, PgBouncer, Prometheus, Alertmanager and the sources of locales with Debian's apt when they are missing; fails loudly when it cannot.
set -eu
missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
[ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
command -v prometheus-alertmanager >/dev/null 2>&1 || missing="$missing prometheus-alertmanager"
command -v localedef >/dev/null 2>&1 && [ -e /usr/share/i18n/locales/tr_TR ] || missing="$missing locales"
[ -n "$missing" ] || exit 0
echo "Installing Debian packages:$missing"
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
export DEBIAN_FRONTEND=noninteractive
# The tests start servers of their own, on ports of their own: Debian must not start any on the usual ones.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
$as_root apt-get update -q
# shellcheck disable=SC2086 - a list of words
$as_root apt-get install -yq --no-install-recommends $missing
