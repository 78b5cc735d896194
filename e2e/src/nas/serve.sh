# Serves NFS in the network namespace "nas". Runs in it, in a mount namespace of its own, with the
# folder for its state as $1 and the exported directory as $2; ends as rpc.mountd, in the foreground.
#
# nfsd's threads belong to the network namespace, not to this process: stop.sh ends them.
set -eu
state=$1
share=$2

# This copy of the mount table would keep the driver's mounts in use, where the server is started while there are some.
umount --all --types nfs,nfs4 --lazy || true

# Everything that the daemons of nfs-utils read or write under fixed names becomes ours.
mkdir -p "$state/lib/v4recovery" "$state/lib/nfsdcld" "$state/run"
touch "$state/lib/etab" "$state/lib/rmtab"
printf '[exports]\nrootdir=%s\n' "$share" >"$state/nfs.conf"
# The splitter is the only client that nfsd sees. It comes from 127.0.0.1 for a mount target that may
# be used and from 127.0.0.66 for one whose access rules refuse us.
echo '/ 127.0.0.1(rw,fsid=0,insecure,no_root_squash,no_subtree_check,async)' >"$state/exports"
echo 'hosts: files' >"$state/nsswitch.conf"
mount --bind "$state/lib" /var/lib/nfs
touch /etc/nfs.conf /etc/exports /etc/nsswitch.conf
for file in nfs.conf exports nsswitch.conf; do
    mount --bind "$state/$file" "/etc/$file"
done
mount --bind "$state/run" /run
mount -t nfsd nfsd /proc/fs/nfsd

rpcbind -f -w &
until rpcinfo -T tcp 127.0.0.1 portmapper 2 >/dev/null 2>&1; do
    sleep 0.05
done

# With a tracker of clients that knows none, NFSv4 opens are served at once, without a grace period.
mkdir -p "$state/run/pipes"
mount -t rpc_pipefs sunrpc "$state/run/pipes"
nfsdcld --foreground --pipefsdir "$state/run/pipes" --storagedir "$state/lib/nfsdcld" &
until ls /proc/$!/fd 2>/dev/null | grep -q 5; do sleep 0.05; done

# The shortest that the kernel accepts; the default makes the first open of NFSv4 wait 90 seconds.
echo 10 >/proc/fs/nfsd/nfsv4gracetime
echo 10 >/proc/fs/nfsd/nfsv4leasetime
exportfs -ra
rpc.nfsd --no-udp --no-nfs-version 4.1 --no-nfs-version 4.2 --host 127.0.0.1 --port 2050 4
exec rpc.mountd --foreground --no-nfs-version 2 --port 20048
