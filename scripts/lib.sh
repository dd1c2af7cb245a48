# Sourced by the scripts: where tools lie, their versions, and how to build.
COFFER_TOOLS=${COFFER_TOOLS:-$PWD/.cache/tools}
CSI_SANITY_VERSION=v5.6.0
HVAC_VERSION=2.4.0
FSNOTIFY_VERSION=v1.7.0
WATCHDOG_VERSION=6.0.0
SELENIUM_VERSION=4.51.0
SPDX_TOOLS_VERSION=0.8.5
GO_VERSION=go1.26.8

# Puts a Go of at least 1.25 on the PATH. Debian 12 has 1.19, which can fetch a newer one as a module.
use_go() {
  if command -v go >/dev/null && [[ $(go env GOVERSION) =~ ^go1\.([0-9]+) ]] &&
    ((BASH_REMATCH[1] >= 25)); then
    return
  fi
  [[ -x /usr/lib/go-1.19/bin/go ]] ||
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-1.19-go >/dev/null
  local name=golang.org/toolchain@v0.0.1-$GO_VERSION.linux-amd64
  local root
  root=$(/usr/lib/go-1.19/bin/go mod download -json "$name" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  chmod -R u+w "$root"
  chmod +x "$root"/bin/* "$root"/pkg/tool/*/*
  export PATH=$root/bin:$PATH GOROOT=$root GOTOOLCHAIN=local
}

# build PRESET [TARGET...]
build() {
  local preset=$1
  shift
  [[ -f build/$preset/build.ninja ]] || cmake --preset "$preset" >/dev/null
  ninja -C "build/$preset" --quiet "$@"
}
