//! The functions of expressions: CEL's standard ones over JSON values, and its usual extensions for text.

use super::Flaw;

macro_rules! functions {
    ($($variant:ident = $name:literal, $arity:literal, $style:ident;)*) => {
        /// A function and how it is called.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Function {
            $($variant,)*
        }

        impl Function {
            const ALL: &[(&str, usize, Style, Self)] = &[$(($name, $arity, Style::$style, Self::$variant),)*];

            /// The name in expressions.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

/// `f(x)`, `x.f()`, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Global,
    Method,
    Either,
}

// The arity counts the target of a method.
functions! {
    Size = "size", 1, Either;
    Text = "string", 1, Global;
    Int = "int", 1, Global;
    Double = "double", 1, Global;
    Bool = "bool", 1, Global;
    Contains = "contains", 2, Method;
    StartsWith = "startsWith", 2, Method;
    EndsWith = "endsWith", 2, Method;
    Matches = "matches", 2, Either;
    LowerAscii = "lowerAscii", 1, Method;
    UpperAscii = "upperAscii", 1, Method;
    Trim = "trim", 1, Method;
    Split = "split", 2, Method;
    Join = "join", 2, Method;
    Replace = "replace", 3, Method;
    Date = "date", 1, Global;
    DateShifted = "date", 2, Global;
}

impl Function {
    /// The function of this name for so many arguments.
    pub(super) fn find(name: &str, arity: usize, method: bool) -> Result<Self, Flaw> {
        let named = || Self::ALL.iter().filter(|(own, ..)| *own == name);
        let found = named().find(|(_, wanted, ..)| *wanted == arity).or_else(|| named().next());
        let Some((_, wanted, style, function)) = found else {
            let mut names: Vec<_> = Self::ALL.iter().map(|(own, ..)| *own).collect();
            names.dedup();
            return Err(Flaw::new(format!(
                "calls `{name}`, which does not exist with {} arguments; there are {}, has, all, exists, exists_one, filter and map",
                arity - usize::from(method),
                names.join(", ")
            )));
        };
        let shape = match style {
            Style::Global => !method,
            Style::Method => method,
            Style::Either => true,
        };
        if *wanted != arity || !shape {
            let arguments = wanted - usize::from(*style != Style::Global);
            let form =
                if *style == Style::Global { format!("{name}(…)") } else { format!("x.{name}(…)") };
            return Err(Flaw::new(format!(
                "calls `{name}` wrongly: it is `{form}` with {arguments} arguments"
            )));
        }
        Ok(*function)
    }
}
