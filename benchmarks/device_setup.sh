#!/usr/bin/env bash
# Two devices to try `--device` with, on Debian: an ssh server of this machine's own on 127.0.0.1, and an aarch64 user space.
#
#     sudo benchmarks/device_setup.sh ssh FOLDER     prints an address for --device; needs openssh-server
#     sudo benchmarks/device_setup.sh arm FOLDER     prints an address for --device; needs qemu-user-static and mmdebstrap
#
# The second computes what an ARM board computes, and its times say nothing. WB_DEVICE=ADDRESS makes the tests use it.
set -euo pipefail
what=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
python=${PYTHON:-$(pwd)/.venv/bin/python}

ssh_server() {
    command -v /usr/sbin/sshd > /dev/null || apt-get install -y openssh-server >&2
    mkdir -p /run/sshd
    for key in host id; do [ -f "$folder/$key" ] || ssh-keygen -q -t ed25519 -N "" -f "$folder/$key"; done
    install -m 600 "$folder/id.pub" "$folder/authorized"
    printf '%s\n' "Port 2229" "ListenAddress 127.0.0.1" "HostKey $folder/host" "AuthorizedKeysFile $folder/authorized" \
        "PasswordAuthentication no" "StrictModes no" "PidFile $folder/pid" > "$folder/sshd_config"
    [ -f "$folder/pid" ] && kill "$(cat "$folder/pid")" 2> /dev/null || true
    /usr/sbin/sshd -f "$folder/sshd_config"
    sleep 1
    ssh-keyscan -p 2229 127.0.0.1 > "$folder/known" 2> /dev/null
    mkdir -p ~/.ssh
    grep -qs "^Host wb-loopback$" ~/.ssh/config || printf '%s\n' "Host wb-loopback" "  HostName 127.0.0.1" "  Port 2229" \
        "  IdentityFile $folder/id" "  UserKnownHostsFile $folder/known" >> ~/.ssh/config
    echo "ssh:wb-loopback,python=$python"
}

arm() {
    command -v qemu-aarch64-static > /dev/null && command -v mmdebstrap > /dev/null \
        || apt-get install -y qemu-user-static mmdebstrap >&2
    cd "$folder"
    sources=/etc/apt/sources.list.d/debian.sources
    [ -d root/usr ] || mmdebstrap --variant=extract --architectures=arm64 \
        --include=python3-minimal,libpython3.11-stdlib,libstdc++6,libgcc-s1,zlib1g bookworm root - < $sources >&2
    if [ ! -d site/numpy ]; then
        "$python" -m pip download --no-deps --only-binary=:all: --implementation cp --python-version 311 \
            --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 -d wheels onnxruntime numpy >&2
        for wheel in wheels/*.whl; do "$python" -m zipfile -e "$wheel" site; done
    fi
    # onnxruntime reads /proc/cpuinfo, which under qemu is the host's: a file of that name under -L comes first.
    mkdir -p root/proc
    for core in 0 1; do
        printf '%s\n' "processor : $core" "Features : fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp" \
            "CPU implementer : 0x41" "CPU architecture: 8" "CPU variant : 0x3" "CPU part : 0xd0b" "CPU revision : 1" ""
    done > root/proc/cpuinfo
    echo "run:qemu-aarch64-static -L $folder/root -E PYTHONPATH=$folder/site -E OPENBLAS_NUM_THREADS=1 $folder/root/usr/bin/python3"
}

case $what in
    ssh) ssh_server ;;
    arm) arm ;;
    *) echo "no device '$what'; there are ssh and arm" >&2; exit 2 ;;
esac
