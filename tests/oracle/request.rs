// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Request: what addonce answers to the kernel's own requests, on a kernel where every load succeeds

use std::time::Duration;

use addonce::daemon::requests::Requests;
use addonce::kmod::{Resolver, Tree};
use addonce::once::{ClientId, Limits, Origin, Request};
use addonce::replay::{Replayed, Simulation};

pub struct Kernel {
    simulation: Simulation<Replayed>,
    requests: Requests,
    client: ClientId,
}

impl Kernel {
    pub fn over(tree: &Tree) -> Self {
        let resolver = Resolver::open(tree.clone()).expect("resolver");
        let world = Replayed::new(resolver, "").expect("no statement");
        let simulation = Simulation::new(world, Limits::default());
        Self { simulation, requests: Requests::default(), client: 0 }
    }

    /// What the helper exits with; none where it runs modprobe.
    pub fn exit_code(&mut self, name: &[u8]) -> Option<i32> {
        self.client += 1;
        let client = Some(self.client);
        self.requests.ask(self.client, name.to_vec());
        self.simulation.ask(Request { alias: name, origin: Origin::Kernel, client });
        while !self.simulation.core.is_settled() {
            self.simulation.pass(Duration::from_millis(1));
        }
        let answers = self.simulation.answers.pop().map(|(_, answers)| answers);
        assert_ne!(
            answers.is_some(),
            self.simulation.handed_back.pop().is_some(),
            "one word for each request"
        );
        let reply = self.requests.reply(self.client, answers.as_deref(), self.simulation.now);
        match reply.expect("a reply").parameters["answer"].as_str() {
            Some("done") => Some(0),
            Some("failed") => Some(1),
            _ => None,
        }
    }
}
