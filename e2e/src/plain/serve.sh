# Serves plain NFS in the network namespace "plain": commands for the server's shell, which is in a mount
# namespace of its own. $state is the folder of the world; its disk is what is exported.
#
# rpcbind, nfsd and rpc.mountd come after this: see condition.rs.

# Everything that the daemons of nfs-utils read or write under fixed names becomes ours.
mkdir -p "$state/lib/v4recovery" "$state/lib/nfsdcld" "$state/run"
touch "$state/lib/etab" "$state/lib/rmtab" "$state/log"
printf '[exports]\nrootdir=%s\n' "$state/disk" >"$state/nfs.conf"
mount --bind "$state/lib" /var/lib/nfs
touch /etc/nfs.conf /etc/exports
for file in nfs.conf exports; do
    mount --bind "$state/$file" "/etc/$file"
done
mount --bind "$state/run" /run
mount -t nfsd nfsd /proc/fs/nfsd

# With a tracker of clients that knows none, NFSv4 opens are served at once, without a grace period.
mkdir "$state/run/pipes"
mount -t rpc_pipefs sunrpc "$state/run/pipes"
nfsdcld --foreground --pipefsdir "$state/run/pipes" --storagedir "$state/lib/nfsdcld" >>"$state/log" 2>&1 &
until ls /proc/$!/fd 2>/dev/null | grep -q 5; do sleep 0.05; done

# The shortest that the kernel accepts; the default makes the first open of NFSv4 wait 90 seconds.
echo 10 >/proc/fs/nfsd/nfsv4gracetime
echo 10 >/proc/fs/nfsd/nfsv4leasetime
exportfs -ra >>"$state/log" 2>&1
