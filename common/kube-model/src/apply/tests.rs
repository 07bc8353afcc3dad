//! The laws of ownership.

use proptest::prelude::*;
use serde_json::json;

use super::*;

struct OneVersion(Schema);

impl Versions for OneVersion {
    fn schema(&self, api_version: &str) -> Option<&Schema> {
        (api_version == "v1").then_some(&self.0)
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        (api_version == "v1").then(|| object.clone())
    }
}

fn versions() -> OneVersion {
    let ports = Schema::keyed(["name"], Schema::Plain);
    OneVersion(Schema::record([
        ("metadata", Schema::metadata()),
        ("data", Schema::map()),
        ("spec", Schema::record([("ports", ports), ("tags", Schema::Set), ("atomic", Schema::Leaf)])),
    ]))
}

fn write<'a>(versions: &'a OneVersion, manager: &'a str) -> Write<'a> {
    Write { versions, api_version: "v1", subresource: "", manager, reset: &[], now: "2026-01-01T00:00:00Z" }
}

/// An object and who owns what of it.
#[derive(Clone, Debug, PartialEq)]
struct Kept(Value, Managers);

fn applied(live: &Kept, manager: &str, config: &Value, force: bool) -> Result<Kept, Refusal> {
    let (mut merged, managers) = apply(&write(&versions(), manager), &live.0, &live.1, config, force)?;
    // As decoding does.
    object::drop_nulls(&mut merged);
    Ok(Kept(merged, managers))
}

fn empty() -> Kept {
    Kept(json!({}), Managers::default())
}

fn owners(object: &Kept) -> Vec<(String, Value)> {
    object.1.iter().map(|(id, owned)| (id.manager.clone(), json!(owned.fields))).collect()
}

fn difference(one: &FieldSet, other: &FieldSet) -> FieldSet {
    let mut difference = one.clone();
    difference.subtract(other);
    difference
}

#[test]
fn a_field_that_is_given_up_goes_with_its_last_owner() {
    let first = applied(&empty(), "a", &json!({"data": {"x": "1", "y": "1"}}), false).unwrap();
    let shared = applied(&first, "b", &json!({"data": {"y": "1"}}), false).unwrap();
    let given_up = applied(&shared, "a", &json!({"data": {}}), false).unwrap();
    assert_eq!(given_up.0["data"], json!({"y": "1"}));
    assert_eq!(owners(&given_up)[1], ("b".into(), json!({"f:data": {"f:y": {}}})));
    let gone = applied(&given_up, "b", &json!({"data": null}), false).unwrap();
    assert_eq!(gone.0["data"], Value::Null);
}

#[test]
fn a_conflict_names_field_and_manager_and_force_takes_over() {
    let first = applied(&empty(), "a", &json!({"data": {"x": "1"}}), false).unwrap();
    let Err(Refusal::Conflicts(conflicts)) = applied(&first, "b", &json!({"data": {"x": "2"}}), false) else {
        panic!("the field belongs to another");
    };
    let error = crate::errors::ApiError::apply_conflict(&conflicts);
    assert_eq!(error.message(), "Apply failed with 1 conflict: conflict with \"a\": .data.x");
    let taken = applied(&first, "b", &json!({"data": {"x": "2"}}), true).unwrap();
    assert_eq!(owners(&taken), [("b".into(), json!({"f:data": {"f:x": {}}}))]);
}

#[test]
fn an_update_takes_what_it_changes() {
    let first = applied(&empty(), "a", &json!({"data": {"x": "1", "y": "1"}}), false).unwrap();
    let mut changed = first.clone();
    changed.0["metadata"]["uid"] = json!("u");
    changed.0["data"]["x"] = json!("2");
    changed.1 = update(&write(&versions(), "editor"), &first.0, &first.1, &changed.0, Said::Nothing);
    assert_eq!(
        owners(&changed),
        [("a".into(), json!({"f:data": {"f:y": {}}})), ("editor".into(), json!({"f:data": {"f:x": {}}})),]
    );
    // What an update owns, an apply does not remove.
    let given_up = applied(&changed, "a", &json!({"data": {}}), false).unwrap();
    assert_eq!(given_up.0["data"], json!({"x": "2"}));
}

#[test]
fn items_of_keyed_lists_have_their_own_owners() {
    let first = json!({"spec": {"ports": [{"name": "a", "port": 1}], "tags": ["x"]}});
    let first = applied(&empty(), "a", &first, false).unwrap();
    let second = json!({"spec": {"ports": [{"name": "b", "port": 2}], "tags": ["y"]}});
    let both = applied(&first, "b", &second, false).unwrap();
    assert_eq!(both.0["spec"]["ports"], json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]));
    assert_eq!(both.0["spec"]["tags"], json!(["x", "y"]));
    let gone = applied(&both, "a", &json!({"spec": {}}), false).unwrap();
    assert_eq!(gone.0["spec"], json!({"ports": [{"name": "b", "port": 2}], "tags": ["y"]}));
}

#[test]
fn fields_that_nobody_owned_belong_to_nobody_who_applies() {
    let live = Kept(json!({"metadata": {"uid": "u"}, "data": {"x": "1"}}), Managers::default());
    let Err(Refusal::Conflicts(conflicts)) = applied(&live, "a", &json!({"data": {"x": "2"}}), false) else {
        panic!("what was there before has an owner");
    };
    assert_eq!(conflicts.0.keys().next().unwrap().manager, "before-first-apply");
}

#[test]
fn old_updaters_are_merged() {
    let mut managers = Managers::default();
    for index in 0..14 {
        let mut fields = FieldSet::default();
        fields.insert(&[field(&format!("x{index}"))]);
        let id = ManagerId::new(&format!("m{index:02}"), Operation::Update, "v1", "");
        managers.insert(
            id,
            Owned { fields, api_version: "v1".into(), time: Some(format!("2026-01-01T00:00:{index:02}Z")) },
        );
    }
    managers.cap_updaters();
    assert_eq!(managers.iter().count(), 10);
    let ancient = managers.get(&ManagerId::new("ancient-changes", Operation::Update, "v1", "")).unwrap();
    assert_eq!(ancient.fields.paths().len(), 5);
}

fn configs() -> impl Strategy<Value = Value> {
    let keys = prop::collection::btree_map("[a-c]", "[1-2]", 0..3);
    let ports = prop::collection::btree_map("[a-c]", 1_u16..3, 0..3);
    let tags = prop::collection::btree_set("[a-c]", 0..3);
    (keys, ports, tags).prop_map(|(data, ports, tags)| {
        let ports: Vec<_> = ports.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
        json!({"data": data, "spec": {"ports": ports, "tags": tags}})
    })
}

proptest! {
    #[test]
    fn applying_twice_changes_nothing_the_second_time(a in configs(), b in configs()) {
        let live = applied(&empty(), "other", &b, false).unwrap();
        let once = applied(&live, "me", &a, true).unwrap();
        let twice = applied(&once, "me", &a, false).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_is_applied_is_there_and_owned(a in configs(), b in configs(), c in configs()) {
        let live = applied(&applied(&empty(), "other", &b, false).unwrap(), "me", &c, true).unwrap();
        let new = applied(&live, "me", &a, true).unwrap();
        let schema = versions().0;
        let wanted = walk::field_set(&schema, &a);
        let present = walk::field_set(&schema, &new.0);
        let missing = difference(&wanted, &present).paths();
        prop_assert!(missing.iter().all(|path| path == ".data"), "{missing:?}");
        let id = ManagerId::new("me", Operation::Apply, "v1", "");
        let owned = new.1.get(&id).map(|owned| owned.fields.clone()).unwrap_or_default();
        prop_assert_eq!(owned, wanted);
    }

    #[test]
    fn who_gives_all_up_leaves_what_others_own(a in configs(), b in configs()) {
        let before = applied(&empty(), "other", &b, false).unwrap();
        let both = applied(&before, "me", &a, true).unwrap();
        let after = applied(&both, "me", &json!({"spec": {}}), false).unwrap();
        let fields = |object: &Kept| walk::field_set(&versions().0, &object.0);
        let theirs = both.1.get(&ManagerId::new("other", Operation::Apply, "v1", ""));
        let theirs = theirs.map(|owned| owned.fields.clone()).unwrap_or_default();
        prop_assert!(difference(&theirs, &fields(&after)).paths().iter().all(|path| path == ".data"));
        let mine_alone = difference(&fields(&both), &theirs).intersection(&walk::field_set(&versions().0, &a));
        let left = difference(&mine_alone.intersection(&fields(&after)), &theirs).paths();
        prop_assert!(left.iter().all(|path| path.matches('.').count() < 2));
    }

    #[test]
    fn nobody_owns_what_is_not_there(a in configs(), b in configs(), c in configs()) {
        let live = applied(&empty(), "one", &a, false).unwrap();
        let live = applied(&live, "two", &b, true).unwrap();
        let live = applied(&live, "one", &c, true).unwrap();
        let present = walk::field_set(&versions().0, &live.0).with_named_fields(&versions().0);
        for (id, owned) in live.1.iter() {
            let phantom = difference(&owned.fields, &present).paths();
            prop_assert!(phantom.iter().all(|path| path == ".data"), "{id} owns {phantom:?}");
        }
    }
}
