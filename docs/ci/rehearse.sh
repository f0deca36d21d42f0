#!/bin/sh
# Rehearses a chain upgrade on a snapshot that `kmsctl snapshot` made: plan, switch, look, go back, look again.
# The snapshot itself stays as it is: everything happens in a copy, and nothing of it is executed.
#
#   rehearse.sh SNAPSHOT NEW-CHAIN [OPTION...]
#
# SNAPSHOT is the folder, or a .tar.gz of it. The options go to `kmsctl plan`, such as --from-chain or --suffix. KMSCTL
# names the program where it isn't on the PATH. Exits with 0 where the whole way can be gone, and with kmsctl's own code
# where a step ends otherwise than it must.
set -eu

if [ "$#" -lt 2 ]; then
    echo "usage: $0 SNAPSHOT NEW-CHAIN [PLAN-OPTION...]" >&2
    exit 2
fi
snapshot=$1
new_chain=$2
shift 2
kmsctl=${KMSCTL:-kmsctl}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM HUP
root=$folder/host
mkdir -m 700 "$root"
case $snapshot in
*.tar.gz) tar -xzf "$snapshot" -C "$root" ;;
*) cp -a "$snapshot/." "$root/" ;;
esac
if [ ! -f "$root/run/kmsctl/snapshot.json" ]; then
    echo "$snapshot: no snapshot: it has no run/kmsctl/snapshot.json; make one with 'kmsctl snapshot DIR'" >&2
    exit 2
fi

# Runs kmsctl on the copy, and ends the rehearsal where it ends with another code than the expected one.
must_end_with() {
    expected=$1
    shift
    echo "\$ kmsctl $*"
    code=0
    "$kmsctl" --root "$root" --no-input "$@" || code=$?
    if [ "$code" -ne "$expected" ]; then
        echo "rehearsal failed: 'kmsctl $*' ended with $code, and must end with $expected" >&2
        [ "$code" -ne 0 ] || code=1
        exit "$code"
    fi
    echo
}

must_end_with 10 plan --new-chain "$new_chain" --detailed-exitcode "$@"
must_end_with 0 apply --yes
must_end_with 0 plan --new-chain "$new_chain" --detailed-exitcode "$@"
must_end_with 0 rollback --yes
must_end_with 10 plan --new-chain "$new_chain" --detailed-exitcode "$@"
echo "rehearsed: there to $new_chain and back again"
