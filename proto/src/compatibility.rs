//! What a new version of the service may not do to an older one (design: controller and adapter one minor apart work).

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Everything that breaks users of `old` in `new`; empty when nothing does.
pub fn breaking_changes(old: &[u8], new: &[u8]) -> Result<Vec<String>, prost::DecodeError> {
    let (old, new) = (FileDescriptorSet::decode(old)?, FileDescriptorSet::decode(new)?);
    let mut found = Vec::new();
    for file in &new.file {
        rules(file, &mut found);
    }
    let (old, new) = (Index::of(&old), Index::of(&new));
    for (name, fields) in &old.fields {
        match new.fields.get(name) {
            None => found.push(format!("{name} was removed")),
            Some(now) => compare(name, fields, now, &mut found),
        }
    }
    for (name, shape) in &old.methods {
        match new.methods.get(name) {
            None => found.push(format!("{name} was removed")),
            Some(now) if now != shape => found.push(format!("{name} was changed from {shape} to {now}")),
            Some(_) => {}
        }
    }
    Ok(found)
}

fn rules(file: &FileDescriptorProto, found: &mut Vec<String>) {
    let package = file.package();
    let version = package.rsplit('.').next().unwrap_or_default();
    if !version.strip_prefix('v').is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit())) {
        found.push(format!("package {package} does not end in a version"));
    }
    for kind in &file.enum_type {
        let zero = kind.value.iter().find(|value| value.number() == 0);
        if !zero.is_some_and(|zero| zero.name().ends_with("_UNSPECIFIED")) {
            found.push(format!("{}: the value 0 must end in _UNSPECIFIED", kind.name()));
        }
    }
}

fn compare(name: &str, old: &BTreeMap<i32, String>, new: &BTreeMap<i32, String>, found: &mut Vec<String>) {
    for (number, shape) in old {
        match new.get(number) {
            None => found.push(format!("{name}: number {number} ({shape}) was removed")),
            Some(now) if now != shape => {
                found.push(format!("{name}: number {number} was changed from {shape} to {now}"));
            }
            Some(_) => {}
        }
    }
}

/// Names to what must stay: fields and enum values by number, methods by their types.
#[derive(Default)]
struct Index {
    fields: BTreeMap<String, BTreeMap<i32, String>>,
    methods: BTreeMap<String, String>,
}

impl Index {
    fn of(set: &FileDescriptorSet) -> Self {
        let mut index = Self::default();
        for file in &set.file {
            for message in &file.message_type {
                index.message(file.package(), message);
            }
            for kind in &file.enum_type {
                index.enumeration(file.package(), kind);
            }
            for service in &file.service {
                for method in &service.method {
                    let streams = (method.client_streaming(), method.server_streaming());
                    let shape = format!("{} -> {} {streams:?}", method.input_type(), method.output_type());
                    index.methods.insert(format!("{}.{}/{}", file.package(), service.name(), method.name()), shape);
                }
            }
        }
        index
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        let shape = |field: &prost_types::FieldDescriptorProto| {
            format!("{} {:?} {:?} {}", field.name(), field.label(), field.r#type(), field.type_name())
        };
        let fields = message.field.iter().map(|field| (field.number(), shape(field))).collect();
        self.fields.insert(name.clone(), fields);
        for inner in &message.nested_type {
            self.message(&name, inner);
        }
        for inner in &message.enum_type {
            self.enumeration(&name, inner);
        }
    }

    fn enumeration(&mut self, scope: &str, kind: &EnumDescriptorProto) {
        let values = kind.value.iter().map(|value| (value.number(), value.name().to_owned())).collect();
        self.fields.insert(format!("{scope}.{}", kind.name()), values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl FnOnce(&mut FileDescriptorProto)) -> Vec<u8> {
        let mut set = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
        change(&mut set.file[0]);
        set.encode_to_vec()
    }

    #[test]
    fn the_service_follows_its_rules() {
        assert_eq!(breaking_changes(crate::DESCRIPTORS, crate::DESCRIPTORS).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_breaks_users_is_named() {
        let removed = changed(|file| {
            file.message_type[0].field.remove(0);
        });
        assert!(breaking_changes(crate::DESCRIPTORS, &removed).unwrap()[0].contains("number 1"));
        let renamed = changed(|file| file.enum_type[0].value[1].name = Some("OTHER".into()));
        assert!(breaking_changes(crate::DESCRIPTORS, &renamed).unwrap()[0].contains("OTHER"));
        let gone = changed(|file| {
            file.service[0].method.remove(0);
        });
        assert!(breaking_changes(crate::DESCRIPTORS, &gone).unwrap()[0].contains("OpenSession"));
        assert!(breaking_changes(&removed, crate::DESCRIPTORS).unwrap().is_empty(), "additions are fine");
    }
}
