#!/bin/sh
# Install Debian's Chromium, which the tests of `gossamer report` drive. Idempotent, quiet. Where it
# cannot be installed it says why and is no error: those tests are then skipped with the reason.
set -eu
if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then
    exit 0
fi
skipped() {
    echo "scripts/browser.sh: $1; the report's browser tests will be skipped" >&2
    exit 0
}
command -v apt-get >/dev/null || skipped "no chromium, and no apt-get to install it"
[ "$(id -u)" = 0 ] || skipped "no chromium; as root: apt-get install chromium"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
apt-get update -qq >"$log" 2>&1 || true # packages may be known already
DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
    chromium fonts-dejavu-core >>"$log" 2>&1 || {
    tail -n 3 "$log" >&2
    skipped "apt-get could not install chromium"
}
