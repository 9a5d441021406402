//! Turns, taken one by one on a real epoll, and waits on a poller that answers what it is told to.

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc};

use crossbeam_channel::{Sender, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::{
    bridge::Membership,
    offload::VnetHeader,
    port::{
        PortQueue, RxBatch,
        memory::{MemoryHost, MemoryPort},
    },
    wire::MacAddr,
    worker::{
        Facts, Shared, Turned, Worker,
        poller::Epoll,
        tests::scene::{A, B, BLUE, C, NO_OFFLOADS, Scene, frame},
    },
};

/// Room for all that one turn can carry and more.
const QUEUE_LEN: usize = 1000;

fn wake() -> Arc<OwnedFd> {
    Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
}

/// A worker with ports on a bridge, and the hosts behind them.
fn bridged(ports: usize) -> (Run<Epoll>, Vec<MemoryHost>) {
    let mut scene = Scene::new();
    let (mut poller, mut hosts) = (Epoll::new().unwrap(), Vec::new());
    for _ in 0..ports {
        let (port, host) = MemoryPort::pair_with_wakeup(QUEUE_LEN, NO_OFFLOADS).unwrap();
        let id = scene.add_queue(Membership::Access(BLUE), PortQueue::Memory(port));
        poller.add(scene.worker.port(id).and_then(Port::poll_fd).unwrap(), Source::Port(id)).unwrap();
        hosts.push(host);
    }
    scene.shared.tables.store(Arc::new(scene.tables.clone()));
    let (_, commands) = unbounded();
    (Run::new(scene.worker, poller, commands, wake(), Clock::start()), hosts)
}

fn received(host: &mut MemoryHost) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| host.try_recv()).map(|(bytes, _)| bytes).collect()
}

#[test]
fn a_port_that_floods_gets_its_turn_and_no_more() {
    let (mut run, mut hosts) = bridged(3);
    hosts[2].send(&frame(A, C, 60), VnetHeader::NONE).unwrap();
    assert!(run.turn().is_continue());
    for host in &mut hosts {
        received(host);
    }
    let (flood, other) = (frame(C, B, 60), frame(C, A, 60));
    for _ in 0..50 {
        while hosts[0].send(&flood, VnetHeader::NONE).is_ok() {}
        hosts[1].send(&other, VnetHeader::NONE).unwrap();
        assert!(run.turn().is_continue());
        let (theirs, floods): (Vec<_>, Vec<_>) = received(&mut hosts[2]).into_iter().partition(|bytes| *bytes == other);
        assert_eq!(theirs.len(), 1, "what came within a turn leaves within it");
        let turn = RxBatch::CAPACITY..=TURN_BATCHES * RxBatch::CAPACITY;
        assert!(turn.contains(&floods.len()), "{}", floods.len());
    }
}

#[test]
fn a_port_that_sends_rubbish_without_end_is_left_alone_for_a_while_and_the_others_are_not() {
    let (mut run, mut hosts) = bridged(3);
    let (rubbish, other) = (frame(B, C, 60), frame(MacAddr::BROADCAST, A, 60));
    let end = Instant::now() + Duration::from_secs(60);
    while run.paused.is_empty() {
        assert!(Instant::now() < end, "never paused: {:?}", run.shares);
        while hosts[0].send(&rubbish, VnetHeader::NONE).is_ok() {}
        assert!(run.turn().is_continue());
        hosts.iter_mut().for_each(|host| drop(received(host)));
    }
    assert_eq!(run.paused[0].0, PortId(0));
    // As if it were for long, so that it can't end in between.
    run.paused[0].1 = Instant::now() + Duration::from_secs(3600);
    hosts[1].send(&other, VnetHeader::NONE).unwrap();
    assert!(run.turn().is_continue());
    assert_eq!(received(&mut hosts[2]), [other]);

    run.paused[0].1 = Instant::now();
    assert!(run.turn().is_continue());
    assert!(received(&mut hosts[2]).contains(&rubbish), "it is read again");
}

#[test]
fn a_port_that_is_taken_out_leaves_nothing_to_the_next_of_its_number() {
    let (mut run, _) = bridged(1);
    run.share(PortId(0)).used(Turned { frames: 1, unusual: 1 }, 25, Instant::now(), Instant::now());
    run.pause(PortId(0), Instant::now() + Duration::from_secs(3600));
    run.forget_share(PortId(0));
    assert_eq!((run.paused.len(), run.shares[0]), (0, Share::default()));
}

/// Answers from a list, and writes down what it was asked; when the list is at its end something can be read for ever.
#[derive(Clone, Default)]
struct Script {
    answers: Rc<RefCell<VecDeque<Vec<Source>>>>,
    asked: Rc<RefCell<Vec<Option<Duration>>>>,
}

impl Poller for Script {
    fn add(&mut self, _: BorrowedFd<'_>, _: Source) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, ready: &mut Vec<Source>, timeout: Option<Duration>) -> io::Result<()> {
        self.asked.borrow_mut().push(timeout);
        ready.extend(
            self.answers.borrow_mut().pop_front().unwrap_or_else(|| vec![Source::Underlay(HeaderFormat::Vxlan)]),
        );
        Ok(())
    }
}

/// A worker without anything, on a poller that finds nothing `looks` times.
fn scripted(looks: usize) -> (Run<Script>, Sender<Command>, Script) {
    let poller = Script::default();
    poller.answers.borrow_mut().extend(vec![vec![]; looks]);
    let worker = Worker::new(Shared::new(7), Facts::new(unbounded().0));
    let (sender, commands) = unbounded();
    (Run::new(worker, poller.clone(), commands, wake(), Clock::start()), sender, poller)
}

#[test]
fn a_worker_sleeps_at_once_unless_it_may_poll_busily() {
    let (mut run, _, poller) = scripted(0);
    for _ in 0..3 {
        assert!(run.turn().is_continue());
    }
    assert_eq!(*poller.asked.borrow(), [None, None, None]);
}

#[test]
fn a_worker_that_may_poll_busily_looks_before_it_sleeps_once_that_would_have_paid() {
    let (mut run, _, poller) = scripted(0);
    run.busy_poll = BusyPoll::new(Duration::from_secs(3600));
    assert!(run.turn().is_continue());
    assert_eq!(*poller.asked.borrow(), [None], "nothing is known yet of when work comes");

    // The clock is the real one, so the window of now and the looks in it are too: long enough for three.
    while run.busy_poll.window() < Duration::from_secs(600) {
        run.busy_poll.found_after(run.busy_poll.window() + Duration::from_nanos(1));
    }
    poller.answers.borrow_mut().extend(vec![vec![]; 3]);
    poller.asked.borrow_mut().clear();
    assert!(run.turn().is_continue());
    assert_eq!(*poller.asked.borrow(), [Some(Duration::ZERO); 4], "three looks in vain and one that found something");
}

#[test]
fn a_command_ends_the_looking() {
    let (mut run, sender, poller) = scripted(0);
    run.busy_poll = BusyPoll::new(Duration::from_secs(3600));
    let cpus = affinity::allowed().unwrap();
    for command in [Command::Tune(Tuning { busy_poll: Duration::ZERO, cpus, nice: Nice::AsStarted }), Command::Stop] {
        sender.send(command).unwrap();
    }
    poller.answers.borrow_mut().push_back(vec![Source::Commands]);
    assert!(run.turn().is_break());
    assert!(run.busy_poll.is_off());
}
