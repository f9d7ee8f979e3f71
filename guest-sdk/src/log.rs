//! The run's log: entries with a level, a message and fields.
//!
//! ```
//! use remit_sdk::log;
//! # remit_sdk::fake::Fake::new().run(|_| {
//! let (service, polls) = ("web", 3);
//! log::info!("not healthy yet", service = service, polls = polls);
//! log::warn!("{service} takes long");
//! # });
//! ```
//!
//! A message is a format string, which sees the variables around it. A field's value is anything that can be displayed. What is
//! logged is redacted and bounded by the runner; a step whose log is full ends as over its limit.

use std::fmt;

use crate::host;

/// How much an entry matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For whoever looks for a fault in the step.
    Debug,
    /// For whoever follows the run.
    Info,
    /// Something is not as it should be; the step goes on.
    Warn,
    /// Something went wrong.
    Error,
}

/// Writes one entry; the macros are shorter.
pub fn write(level: Level, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    host::log(level, message, fields);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $message:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($message),
            &[$((::std::stringify!($name), &$value)),*],
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($all:tt)*) => { $crate::__log!(Debug, $($all)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($all:tt)*) => { $crate::__log!(Info, $($all)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($all:tt)*) => { $crate::__log!(Warn, $($all)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($all:tt)*) => { $crate::__log!(Error, $($all)*) };
}

#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};
