//! The results as JSON; `bench/README.md` documents the form.

use serde_json::{Map, Value, json};

use super::Report;
use crate::side_by_side::{
    figures::{Figure, Want},
    peer::Peer,
};

impl Report<'_> {
    /// Everything that was measured.
    pub(crate) fn to_json(&self) -> Value {
        let options = self.options;
        json!({
            "machine": {
                "processor": self.machine.hardware.processor,
                "processor_count": self.machine.hardware.processor_count,
                "kernel": self.machine.hardware.kernel,
                "programs": self.machine.programs,
            },
            "rounds": options.round_count(),
            "seconds": options.run_seconds(),
            "workers": options.workers,
            "paths": options.peers().into_iter().map(|peer| self.path(peer)).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "failures": self.results.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    fn path(&self, peer: Peer) -> Value {
        let mut metrics = Map::new();
        for metric in self.results.metrics(peer) {
            let values = self.results.values(peer, metric);
            let median = self.results.spread(peer, metric).map(|spread| spread.median);
            metrics.insert(metric.key(), json!({ "median": median, "rounds": values }));
        }
        let calls: Vec<Map<String, Value>> = self
            .results
            .calls
            .get(&peer)
            .into_iter()
            .flatten()
            .map(|calls| calls.iter().map(|&(name, count)| (name.to_owned(), json!(count))).collect())
            .collect();
        json!({
            "path": peer.key(),
            "skipped": self.results.skipped.get(&peer),
            "metrics": metrics,
            "system_calls_by_name": calls,
        })
    }
}

fn figure(figure: &Figure) -> Value {
    let (relation, bound) = match figure.want {
        Want::AtLeast(bound) => (">=", bound),
        Want::AtMost(bound) => ("<=", bound),
    };
    let got = figure.got.as_ref().ok();
    json!({
        "figure": figure.text,
        "want": { "relation": relation, "bound": bound },
        "got": got.map(|got| got.median),
        "min": got.map(|got| got.min),
        "max": got.map(|got| got.max),
        "met": figure.is_met(),
        "not_measured": figure.got.as_ref().err().map(ToString::to_string),
    })
}
