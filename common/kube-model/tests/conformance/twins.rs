//! The same random requests to the model and to a real API server: every answer is to be the same.

use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, owners};

/// A repeatable source of choices (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).unwrap()].clone()
    }

    fn some(&mut self, choices: &[&'static str]) -> Vec<&'static str> {
        choices.iter().copied().filter(|_| self.one_in(2)).collect()
    }

    /// A part of a widget's spec.
    fn spec(&mut self) -> Value {
        let mut spec = Map::new();
        for field in self.some(&["size", "mode", "ports", "tags", "atoms", "open", "texts"]) {
            let value = match field {
                "size" => json!(1 + self.below(2)),
                "mode" => json!(self.of(&["fast", "slow"])),
                "ports" => {
                    let names = self.some(&["a", "b", "c"]);
                    names.iter().map(|name| self.port(name)).collect()
                }
                "tags" | "atoms" => json!(self.some(&["x", "y", "z"])),
                "open" => json!({"k": {"l": self.below(2)}, (self.of(&["m", "n"])): self.some(&["x", "y"])}),
                _ => self.some(&["t", "u"]).iter().map(|key| ((*key).to_owned(), json!("v"))).collect(),
            };
            spec.insert(field.to_owned(), value);
        }
        Value::Object(spec)
    }

    fn port(&mut self, name: &str) -> Value {
        if self.one_in(3) { json!({"name": name}) } else { json!({"name": name, "port": self.below(3)}) }
    }

    fn status(&mut self) -> Value {
        let conditions: Vec<_> = self
            .some(&["A", "B"])
            .iter()
            .map(|kind| json!({"type": kind, "status": self.of(&["True", "False"])}))
            .collect();
        json!({"conditions": conditions, "phase": self.of(&["p", "q"])})
    }

    fn labels(&mut self) -> Value {
        self.some(&["a", "b"]).iter().map(|key| ((*key).to_owned(), json!(self.of(&["1", "2"])))).collect()
    }
}

/// One request of a sequence.
#[derive(Clone, Debug)]
enum Step {
    Apply { sub: &'static str, manager: &'static str, force: bool, body: Value },
    Patch { kind: &'static str, manager: &'static str, sub: &'static str, body: Value },
    Replace { spec: Value, labels: Value },
    Delete,
}

fn step(dice: &mut Dice) -> Step {
    let manager = dice.of(&["one", "two", "three"]);
    let widget = |metadata: Value| {
        let mut metadata = metadata;
        metadata["name"] = json!("w");
        json!({"apiVersion": "model.test/v1", "kind": "Widget", "metadata": metadata})
    };
    match dice.below(10) {
        0..4 => {
            let mut body = widget(if dice.one_in(2) { json!({"labels": dice.labels()}) } else { json!({}) });
            body["spec"] = dice.spec();
            Step::Apply { sub: "", manager, force: dice.one_in(2), body }
        }
        4 => {
            let mut body = widget(json!({}));
            body["status"] = dice.status();
            Step::Apply { sub: "/status", manager, force: dice.one_in(2), body }
        }
        5 | 6 => {
            let body = json!({"spec": dice.spec(), "metadata": {"labels": dice.labels()}});
            Step::Patch { kind: "merge", manager, sub: "", body }
        }
        7 => Step::Patch { kind: "merge", manager, sub: "/status", body: json!({"status": dice.status()}) },
        8 if dice.one_in(4) => Step::Delete,
        8 => {
            let field = dice.of(&["size", "ports", "tags", "texts"]);
            let body = json!([{"op": "remove", "path": format!("/spec/{field}")}]);
            Step::Patch { kind: "json", manager, sub: "", body }
        }
        _ => Step::Replace { spec: dice.spec(), labels: dice.labels() },
    }
}

/// What an answer says, without what each server numbers for itself.
async fn run(cluster: &Cluster, step: &Step) -> Value {
    let path = cluster.widgets("/w");
    let before = cluster.get(&path).await.body;
    let answer = match step {
        Step::Apply { sub, manager, force, body } => {
            let force = if *force { "&force=true" } else { "" };
            cluster.apply(&format!("{path}{sub}"), manager, force, body).await
        }
        Step::Patch { kind, manager, sub, body } => {
            cluster.patch(&format!("{path}{sub}?fieldManager={manager}"), kind, body).await
        }
        Step::Replace { spec, labels } => {
            let mut object = before.clone();
            object["spec"] = spec.clone();
            object["metadata"]["labels"] = labels.clone();
            cluster.put(&format!("{path}?fieldManager=one"), &object).await
        }
        Step::Delete => cluster.delete(&path, &json!({})).await,
    };
    let body = &answer.body;
    let mut causes = body["details"]["causes"].as_array().cloned().unwrap_or_default();
    causes.sort_by_key(ToString::to_string);
    json!({
        "code": answer.code, "reason": body["reason"], "message": body["message"], "causes": causes,
        "spec": body["spec"], "status": body["status"], "labels": body["metadata"]["labels"],
        "generation": body["metadata"]["generation"], "owners": owners(body),
    })
}

/// Sends one random sequence to both, of which each has the same namespace.
pub async fn compare(model: &Cluster, real: &Cluster, seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut told = Vec::new();
    for _ in 0..20 {
        let step = step(&mut dice);
        told.push(format!("{step:?}"));
        let (expected, found) = (run(real, &step).await, run(model, &step).await);
        assert_eq!(found, expected, "seed {seed}, after {}", told.join("\n"));
    }
}
