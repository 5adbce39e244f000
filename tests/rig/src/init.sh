#!/bin/busybox sh
# The rig's first process: makes the file systems that programs expect, and starts the agent.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
chmod 1777 /tmp
ip link set lo up
stty -F /dev/ttyS1 raw -echo
echo "rig: init starts the agent"
/rig/agent agent
echo "rig: the agent ended with status $?"
poweroff -f
