//! Schemas of the built-in kinds, as OpenAPI describes them: what discovery documents show and what tells which fields
//! there are. Custom resources bring theirs in their definition.

mod decode;
mod definitions;
mod topology;
mod unknown;

pub use self::{
    decode::decode,
    definitions::Definitions,
    unknown::{drop_unknown, undeclared},
};
