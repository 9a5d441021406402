//! Containers of an ordinary user, by podman, with a port of weft's for their network: what `switch/docs/rootless.md` tells its
//! readers to do.

use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::lab::{Command, Namespace, VxlanOptions};
use weft_integration::{Needs, trial, weft::PATIENCE};

use crate::scene::{Hosts, OVERLAY, Tun, UNDERLAY, User, Weft, address, config};

const NEEDS: Needs =
    Needs::ROOT.programs(&["podman", "crun", "newuidmap", "busybox", "setpriv", "unshare", "tar", "sha256sum"]);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("containers_of_two_users_ping_and_copy", NEEDS, between_containers),
        trial("a_container_and_the_kernel_ping_and_copy", NEEDS, with_the_kernel),
        trial("a_container_that_asks_for_no_bridge_is_left_alone", NEEDS, without_annotation),
        trial("a_container_whose_port_can_not_be_is_not_started", NEEDS, refused),
    ]
}

/// How long podman may take: it unpacks an image first.
const LIMIT: Duration = Duration::from_secs(120);

/// What is copied, in MiB.
const COPIED: usize = 20;

/// What podman needs of a machine, in a mount namespace of its own: a user that it finds a name for, a range of user ids below
/// his, one hierarchy of control groups, and an image.
const PREPARE: &str = r#"
set -e
home=$1 id=$2 binary=$3; shift 3
cd "$home"
for file in passwd group; do cp /etc/$file $file; done
echo "weft-user:x:$id:$id::$home:/bin/sh" >> passwd
echo "weft-user:x:$id:" >> group
echo "weft-user:500000:65536" > subid
mount --bind passwd /etc/passwd
mount --bind group /etc/group
mount --bind subid /etc/subuid
mount --bind subid /etc/subgid
umount -R /sys/fs/cgroup || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p hooks image/bin image/tmp
cp "$(command -v busybox)" image/bin/busybox
for applet in sh ping ip nc mkfifo dd sha256sum cat ls sleep; do ln -sf busybox image/bin/$applet; done
tar -C image -cf image.tar .
cat > hooks/weft.json <<END
{"version": "1.0.0",
 "hook": {"path": "$binary", "args": ["weft", "oci-hook", "--socket", "$home/weft.sock"]},
 "when": {"annotations": {"^weft\\\\.bridge$": ".+"}},
 "stages": ["createRuntime"]}
END
exec setpriv --reuid="$id" --regid="$id" --clear-groups sh -c '
  podman="podman --cgroup-manager=cgroupfs --storage-driver=vfs --runtime=crun --events-backend=none"
  $podman import -q "$HOME/image.tar" weft-test >/dev/null || exit 99
  status=0
  $podman --hooks-dir "$HOME/hooks" run --rm --network none --cap-add=NET_RAW --cgroups=disabled "$@" || status=$?
  kill "$(cat "$XDG_RUNTIME_DIR/libpod/tmp/pause.pid")"
  exit $status
' sh "$@"
"#;

/// `podman run` with these arguments and a script for the container's shell.
fn podman(user: &User, host: &Namespace, args: &[&str], script: &str) -> anyhow::Result<Command> {
    let home = user.home().to_str().context("a path of UTF-8")?;
    let binary = user.binary().to_str().context("a path of UTF-8")?;
    let id = user.id().to_string();
    let command = host.command("unshare").args(["--mount", "sh", "-c", PREPARE, "sh", home, &id, binary]);
    let command = user.environment(command.args(args).args(["weft-test", "/bin/sh", "-c", script]));
    Ok(command.timeout(LIMIT))
}

fn annotated(bridge: &str, address: &str) -> [String; 4] {
    ["--annotation".into(), format!("weft.bridge={bridge}"), "--annotation".into(), format!("weft.address={address}")]
}

/// A weft of `user` without ports.
fn weft<'u>(user: &'u User, host: &Namespace, number: usize) -> anyhow::Result<Weft<'u>> {
    let config = config(number, "unused", "");
    let (head, _) = config.split_once("[[port]]").context("a port")?;
    Weft::start(user, host, head, Tun::Missing)
}

/// The sum that a line of `sha256sum` says.
fn sum(text: &str) -> anyhow::Result<&str> {
    let is_sum = |word: &&str| word.len() == 64 && word.bytes().all(|c| c.is_ascii_hexdigit());
    text.split_whitespace().find(is_sum).with_context(|| format!("no sum in {text:?}"))
}

fn sending(to: &str) -> String {
    format!(
        "ping -c 3 -W 5 {to} && dd if=/dev/urandom of=/tmp/data bs=1M count={COPIED} 2>/dev/null && sha256sum /tmp/data && \
         nc -w 20 {to} 5000 < /tmp/data"
    )
}

/// Standard input that neither ends nor says anything: at its end nc would close the connection.
const RECEIVING: &str = "mkfifo /tmp/line; exec 3<>/tmp/line; echo listening; nc -l -p 5000 <&3 | sha256sum";

fn between_containers() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let users = [User::new()?, User::new()?];
    let wefts = [weft(&users[0], &hosts[0], 0)?, weft(&users[1], &hosts[1], 1)?];
    let annotations = OVERLAY.map(|address| annotated("blue", &format!("{address}/24")));
    let args = |host: usize| annotations[host].each_ref().map(String::as_str);
    let mut far = podman(&users[1], &hosts[1], &args(1), RECEIVING)?.spawn()?;
    far.wait_for("listening", LIMIT)?;
    let near = podman(&users[0], &hosts[0], &args(0), &sending(OVERLAY[1]))?.output()?.ok()?;
    let far = far.wait(PATIENCE)?.ok()?;
    ensure!(sum(&near.stdout)? == sum(&far.stdout)?, "{near}\n{far}");
    for weft in wefts {
        weft.has_no_privileges()?;
        weft.ports_go()?;
        weft.books_balance()?;
        weft.end()?;
    }
    Ok(())
}

fn with_the_kernel() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let weft = weft(&user, &hosts[0], 0)?;
    let options = VxlanOptions::new(weft_vxlan::Vni::new(42).unwrap(), address(UNDERLAY[1]));
    hosts[1].vxlan("vx0", &VxlanOptions { mtu: Some(1450), ..options.remotes([address(UNDERLAY[0])]) })?;
    hosts[1].address("vx0", &format!("{}/24", OVERLAY[1]))?;
    let script = RECEIVING.replace("/tmp", &user.home().display().to_string()).replace("nc ", "busybox nc ");
    let mut far = hosts[1].command("sh").args(["-c", &script]).spawn()?;
    far.wait_for("listening", PATIENCE)?;
    let args = annotated("blue", &format!("{}/24", OVERLAY[0]));
    let near = podman(&user, &hosts[0], &args.each_ref().map(String::as_str), &sending(OVERLAY[1]))?.output()?.ok()?;
    let far = far.wait(PATIENCE)?.ok()?;
    ensure!(sum(&near.stdout)? == sum(&far.stdout)?, "{near}\n{far}");
    weft.ports_go()?;
    weft.end()
}

fn without_annotation() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    // Nobody listens at the control socket: it must not be asked.
    let output = podman(&user, &hosts[0], &[], "ip link show")?.output()?.ok()?;
    ensure!(output.stdout.contains("lo:") && !output.stdout.contains("eth0"), "{output}");
    Ok(())
}

fn refused() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let weft = weft(&user, &hosts[0], 0)?;
    let annotations = annotated("green", "10.10.0.5/24");
    // Where crun writes what hooks say.
    let heard = user.file("heard", "")?;
    std::os::unix::fs::chown(&heard, Some(user.id()), Some(user.id()))?;
    let to = format!("run.oci.hooks.stderr={}", heard.display());
    let args: Vec<_> = annotations.iter().map(String::as_str).chain(["--annotation", &to]).collect();
    let output = podman(&user, &hosts[0], &args, "echo started")?.output()?;
    ensure!(!output.success() && !output.stdout.contains("started"), "{output}");
    ensure!(output.stderr.contains("error executing hook"), "{output}");
    let heard = std::fs::read_to_string(heard)?;
    ensure!(heard.contains("no port for container") && heard.contains("there is no bridge `green`"), "{heard}");
    weft.end()
}
