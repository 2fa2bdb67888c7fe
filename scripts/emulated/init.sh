#!/bin/busybox sh
# The first process of the emulated host: loads modules, makes the host's file system the root under a layer of
# memory, runs the command and reports its exit status. See host.mjs.
b=/bin/busybox
fail() { echo "emulated host: $*" >/dev/console; $b poweroff -f; }
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod "$module" || fail "$module does not load"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host || fail 'no root'
$b mount -t tmpfs -o size=75% layer /layer
$b mkdir /layer/upper /layer/work
$b mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root || fail 'no layer'
for name in $($b ls /sys/class/virtio-ports); do
  read -r port <"/sys/class/virtio-ports/$name/name"
  $b ln -s "$name" "/dev/$port"
done
$b mkdir -p /root/proc /root/sys /root/dev /root/tmp /root/run
for name in proc sys dev; do $b mount --move "/$name" "/root/$name"; done
$b mkdir -p /root/dev/pts /root/dev/shm
$b mount -t devpts -o ptmxmode=666 devpts /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm
$b mount -t tmpfs run /root/run
[ -e /root/dev/fd ] || $b ln -s /proc/self/fd /root/dev/fd
$b ip link set lo up
$b hostname emulated
# The directory of the checkout may lie in /tmp, which therefore stays; what is written there is forgotten too.
$b cp /command.sh /root/run/command.sh
$b mkfifo /root/run/pipe
# Whatever the command leaves running may hold the pipe open: it is not waited for for ever.
$b chroot /root /bin/sh -c '
  cat </run/pipe >/dev/output &
  sh /run/command.sh >/run/pipe 2>&1 </dev/null
  status=$?
  for second in 1 2 3 4 5; do kill -0 $! 2>/dev/null && sleep 1; done
  echo $status >/dev/status'
$b poweroff -f
