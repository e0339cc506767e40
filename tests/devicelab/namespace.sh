# The first process of the device: in a mount, process and user namespace of its own, so that all it mounts, registers
# and starts is gone when it ends, however it ends. It ends with its standard input.
# $1 root $2 emulator $3 folder of the server's configuration $4 processor that is emulated $5 megabytes of its disk
root=$1 emulator=$2 config=$3 QEMU_CPU=$4 disk=$5
export QEMU_CPU
fail() { echo "failed: $1"; exit 1; }

echo waiting # for the user ids, which only the outside can map
read -r _ || exit 1
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" || fail "mount of the root"
for folder in root tmp run; do
  mount -t tmpfs -o "size=${disk}m" none "$root/$folder" || fail "mount of a memory disk"
done
mkdir "$root/run/sshd"
mount -t tmpfs -o size=1m none "$root/dev" || fail "mount of /dev"
for name in null zero full random urandom tty; do
  : >"$root/dev/$name" && mount --bind "/dev/$name" "$root/dev/$name" || fail "mount of /dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mount --bind "$config" "$root/etc/ssh" && mount -o remount,bind,ro "$root/etc/ssh" || fail "mount of the configuration"
# Before /proc is there. Kernels before 6.7 have one list of binary formats for all namespaces, which stays untouched.
if mount -t binfmt_misc none "$root/proc" 2>/dev/null; then
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf '%s' ":edgekd-devicelab:M::$magic:$mask:$emulator:F" >"$root/proc/register" || fail "registration"
fi
mount -t proc none "$root/proc" || fail "mount of /proc"
chroot "$root" /bin/true 2>/dev/null || fail "no aarch64 program runs"
chroot "$root" /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config </dev/null &
echo running
read -r _
