# Sourced by the scripts: what tests take from elsewhere and where it lies, and how to build.
CSI_SANITY_VERSION=v5.6.0
FSNOTIFY_VERSION=v1.7.0
HELM_VERSION=v3.22.0
KUBE_ROUTER_VERSION=v2.1.0
HVAC_VERSION=2.4.0
WATCHDOG_VERSION=6.0.0
SELENIUM_VERSION=4.51.0
SPDX_TOOLS_VERSION=0.8.5
GO_VERSION=go1.26.8

# Built programs are kept once for all checkouts of a user, in folders named by their versions; a checkout has links to
# those that it takes.
COFFER_CACHE=${XDG_CACHE_HOME:-~/.cache}/coffer
mkdir -p "$COFFER_CACHE" 2>/dev/null && [[ -w $COFFER_CACHE ]] || COFFER_CACHE=$PWD/.cache/coffer
COFFER_TOOLS=$PWD/.cache/tools

# digest FILE...: of their contents.
digest() { cat "$@" | sha256sum | cut -c1-12; }
# required MODULE GO_MOD: the version that it names.
required() { awk -v module="$1" '$1 == "require" { $1 = ""; $0 = $0 } $1 == module && $2 ~ /^v/ { print $2 }' "$2"; }

# What tests run, a line each: its link, its folder in the cache, and the command that fills a folder with it.
test_programs() {
  echo csi-sanity "csi-sanity-$CSI_SANITY_VERSION" \
    go_install "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@$CSI_SANITY_VERSION"
  echo venv "venv-hvac-$HVAC_VERSION" venv "hvac==$HVAC_VERSION"
}
# Watchers that rotation is tried with: where they can't be had, their cases aren't run.
watcher_programs() {
  echo fsnotify "fsnotify-$FSNOTIFY_VERSION" go_install "github.com/fsnotify/fsnotify/cmd/fsnotify@$FSNOTIFY_VERSION"
  echo watchdog "watchdog-$WATCHDOG_VERSION" venv "watchdog==$WATCHDOG_VERSION"
}
e2e_programs() {
  local kubernetes vault upstream
  kubernetes=$(required k8s.io/kubernetes tests/e2e/kubernetes/go.mod)
  vault=$(required github.com/hashicorp/vault tests/vault/go.mod)
  upstream=$(required sigs.k8s.io/secrets-store-csi-driver tests/upstream/go.mod)
  echo helm "helm-$HELM_VERSION" go_install "helm.sh/helm/v3/cmd/helm@$HELM_VERSION"
  echo kube-router "kube-router-$KUBE_ROUTER_VERSION" \
    go_install "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@$KUBE_ROUTER_VERSION"
  echo browser "venv-selenium-$SELENIUM_VERSION" venv "selenium==$SELENIUM_VERSION"
  echo spdx "venv-spdx-tools-$SPDX_TOOLS_VERSION" venv "spdx-tools==$SPDX_TOOLS_VERSION"
  echo webapp "webapp-$(digest tests/e2e/webapp/*)" go_build tests/e2e/webapp
  echo vault "vault-$vault-$(digest tests/vault/go.*)" go_tools tests/vault
  echo upstream "secrets-store-csi-driver-$upstream-$(digest tests/upstream/go.* tests/upstream/mlog/*)" \
    go_tools tests/upstream
  echo kubernetes "kubernetes-$kubernetes-$(digest tests/e2e/kubernetes/go.*)" go_kubernetes "$kubernetes"
}

# each_program LIST COMMAND...: COMMAND with the words of each line; fails where one did.
each_program() {
  local words code=0
  while read -ra words; do "${@:2}" "${words[@]}" || code=1; done < <("$1")
  return "$code"
}
# keep LINK NAME COMMAND...: $COFFER_TOOLS/LINK is the folder NAME of the cache. Where it isn't there, COMMAND FOLDER fills
# one beside it, which then gets the name: what was broken off doesn't count.
keep() {
  local link=$COFFER_TOOLS/$1 kept=$COFFER_CACHE/$2 aside
  if [[ ! -d $kept ]]; then
    echo "Building $2"
    aside=$(mktemp -d "$COFFER_CACHE/.$2.XXXXXX") && chmod 755 "$aside" || return
    "${@:3}" "$aside" </dev/null && { mv -T "$aside" "$kept" 2>/dev/null || [[ -d $kept ]]; } || { rm -rf "$aside"; return 1; }
    rm -rf "$aside"  # where another was first
  fi
  [[ -L $link ]] || rm -rf "$link"
  mkdir -p "$COFFER_TOOLS" && ln -sfn "$kept" "$link"
}
# unkept LINK NAME COMMAND...: the name, where keep would have to build.
unkept() { [[ -d $COFFER_CACHE/$2 ]] || echo "$2"; }
go_install() { (use_go && GOBIN=$2 go install -trimpath -ldflags "-s -w" "$1"); }
go_build() { (use_go && cd "$1" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$2/" .); }
# go_tools FOLDER OUT: the programs that the folder's go.mod names as tools.
go_tools() { (use_go && cd "$1" && GOBIN=$2 go install -trimpath -tags minimal -ldflags "-s -w" tool); }
go_kubernetes() {
  local version=k8s.io/component-base/version parts
  IFS=. read -ra parts <<<"${1#v}"
  (use_go && cd tests/e2e/kubernetes && go build -trimpath -o "$2/" -ldflags "-s -w -X $version.gitVersion=$1 \
    -X $version.gitMajor=${parts[0]} -X $version.gitMinor=${parts[1]}" ./...)
}
# venv PACKAGE FOLDER
venv() { python3 -m venv "$2" && "$2/bin/python3" -m pip install -q --disable-pip-version-check "$1"; }

# lacking LIST...: those packages of these lists that aren't installed.
lacking() {
  local package
  cat "$@" | grep -v '^#' | grep . | while read -r package; do
    # kubectl, which the tests want of kubernetes-client, may have come from elsewhere.
    [[ $package == kubernetes-client ]] && command -v kubectl >/dev/null && continue
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

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
