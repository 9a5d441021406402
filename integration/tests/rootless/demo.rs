//! `weft demo` of an ordinary user.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft_integration::{trial, weft::PATIENCE};

use crate::scene::{Hosts, NEEDS, NEEDS_TUN, Tun, User};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("the_demo_shows_a_user_what_it_shows_root", NEEDS_TUN, || shows_all(Tun::ForAll)),
        trial("the_demo_needs_no_dev_net_tun", NEEDS, || shows_all(Tun::Missing)),
    ]
}

fn shows_all(tun: Tun) -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let output = user.command_with(tun, &hosts[0], user.binary()).arg("demo").timeout(PATIENCE).output()?;
    let said = &output.stdout;
    ensure!(output.success(), "{output}");
    ensure!(said.contains("a user namespace of your own"), "{said}");
    ensure!(said.contains("each tap is a veth pair instead") == (tun == Tun::Missing), "{said}");
    let oks = said.lines().filter(|line| line.starts_with("   ok: ")).count();
    ensure!(oks == 8 && said.contains("All of it was so"), "{oks} of 8 steps:\n{said}");
    let left: Vec<_> = std::fs::read_dir(user.home())?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left.is_empty(), "left {left:?}");
    Ok(())
}
