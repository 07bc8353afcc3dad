//! What a call says in its path and query. Bad input is refused in the API's own words, never passed over: a filter that
//! is ignored answers another question than the one asked.

use std::{collections::HashMap, str::FromStr};

use axum::{
    Json,
    extract::{FromRequestParts, Query},
};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Answer;
use crate::site::{Result, VrmError, codes};

/// Largest page of any list.
pub(super) const PAGE: usize = 100;

/// Parts of the path: as axum's, but a part that is no id is refused as the API refuses.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = VrmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|error| codes::BAD_PARAMETER.because(error.body_text()))
    }
}

/// Query parameters.
pub(super) struct Params(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = VrmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, state).await;
        query.map(|Query(map)| Self(map)).map_err(|error| codes::BAD_PARAMETER.because(error.body_text()))
    }
}

impl Params {
    /// A parameter that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a parameter is there and empty.
    pub(super) fn is_blank(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(String::is_empty)
    }

    /// A number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let read = |text: &str| text.parse().map_err(|_| codes::BAD_PARAMETER.because(format!("{name}={text}")));
        self.text(name).map(read).transpose()
    }

    /// A number out of a few.
    pub(super) fn choice(&self, name: &str, of: &[u64]) -> Result<Option<u64>> {
        match self.number(name)? {
            Some(number) if !of.contains(&number) => {
                Err(codes::BAD_PARAMETER.because(format!("{name}={number}: one of {of:?}")))
            }
            other => Ok(other),
        }
    }

    /// A word out of a few.
    pub(super) fn word(&self, name: &str, of: &[&str]) -> Result<Option<&str>> {
        match self.text(name) {
            Some(word) if !of.contains(&word) => {
                Err(codes::BAD_PARAMETER.because(format!("{name}={word}: one of {}", of.join(", "))))
            }
            other => Ok(other),
        }
    }

    /// Yes or no, in either of two spellings.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(codes::BAD_PARAMETER.because(format!("{name}={other}"))),
        }
    }

    /// Refuses parameters that go with neither the others nor this site.
    pub(super) fn refuse(&self, names: &[&str], why: &str) -> Result<()> {
        match names.iter().find(|name| self.text(name).is_some()) {
            Some(name) => Err(codes::BAD_PARAMETER.because(format!("{name}: {why}"))),
            None => Ok(()),
        }
    }

    /// Whether `value` contains the parameter `name`, letter case aside; true without the parameter.
    pub(super) fn fuzzy(&self, name: &str, value: &str) -> bool {
        self.text(name).is_none_or(|wanted| value.to_lowercase().contains(&wanted.to_lowercase()))
    }

    /// The same of a value that takes some work to make.
    pub(super) fn fuzzy_with(&self, name: &str, value: impl FnOnce() -> String) -> bool {
        self.text(name).is_none() || self.fuzzy(name, &value())
    }

    /// A list of URNs, commas between them. It goes with no other filter.
    pub(super) fn urns(&self, name: &str, most: usize) -> Result<Option<Vec<&str>>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let with = ["limit", "offset", "detail", "refreshflag", name];
        if let Some(other) = self.0.keys().find(|other| !with.contains(&other.as_str()) && self.text(other).is_some()) {
            return Err(codes::BAD_PARAMETER.because(format!("{name} goes with no other filter, not with {other}")));
        }
        let urns: Vec<&str> = text.split(',').collect();
        if urns.len() > most {
            return Err(codes::BAD_PARAMETER.because(format!("{name}: at most {most}")));
        }
        Ok(Some(urns))
    }

    /// One page of a list under `key`. `without_limit` is the number of items where no limit is asked for.
    pub(super) fn page<T>(
        &self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        without_limit: usize,
        view: impl FnMut(T) -> Value,
    ) -> Answer {
        page(key, items, (self.number("offset")?, self.number("limit")?), without_limit, view)
    }
}

/// One page of a list under `key`, for calls that ask for it in their body. Only what is on the page is shown.
pub(super) fn page<T>(
    key: &str,
    items: impl IntoIterator<Item = T>,
    (offset, limit): (Option<usize>, Option<usize>),
    without_limit: usize,
    view: impl FnMut(T) -> Value,
) -> Answer {
    if limit.is_some_and(|limit| limit == 0 || limit > PAGE) {
        return Err(codes::BAD_PARAMETER.because("limit: 1…100"));
    }
    let items: Vec<T> = items.into_iter().collect();
    let total = items.len();
    let page = items.into_iter().skip(offset.unwrap_or(0)).take(limit.unwrap_or(without_limit));
    let page: Vec<Value> = page.map(view).collect();
    Ok(Json(json!({"total": total, key: page})))
}
