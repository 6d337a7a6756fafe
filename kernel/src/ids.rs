//! Identities: UUIDs of version 7, made in one place, and newtypes that keep one kind from passing for another.

use rand::Rng as _;
use uuid::Uuid;

/// A fresh `UUIDv7`. It names a thing; it orders nothing across two machines.
#[expect(clippy::disallowed_methods, reason = "the one place that makes identities")]
pub fn fresh() -> Uuid {
    Uuid::now_v7()
}

/// `N` bytes from the operating system's generator, for secrets and tokens.
pub fn secret_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// Declares a newtype over a UUID that goes into rows, events, paths and schemas.
#[macro_export]
macro_rules! id {
    ($(#[$meta:meta])* $vis:vis $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, $crate::serde::Serialize, $crate::serde::Deserialize, $crate::schemars::JsonSchema)]
        #[serde(transparent, crate = "::kernel::serde")]
        #[schemars(transparent, crate = "::kernel::schemars")]
        $vis struct $name(pub $crate::uuid::Uuid);
        impl $name {
            /// A new identity.
            pub fn fresh() -> Self { Self($crate::ids::fresh()) }
        }
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result { ::std::fmt::Display::fmt(&self.0, f) }
        }
        impl ::std::str::FromStr for $name {
            type Err = $crate::uuid::Error;
            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> { text.parse().map(Self) }
        }
        impl $crate::store::Column for $name {
            const KIND: $crate::store::Kind = $crate::store::Kind::Uuid;
            fn to_value(&self) -> $crate::store::Value { $crate::store::Value::Uuid(self.0) }
            fn from_value(value: $crate::store::Value) -> ::std::result::Result<Self, $crate::store::Mismatch> {
                <$crate::uuid::Uuid as $crate::store::Column>::from_value(value).map(Self)
            }
        }
    };
}

/// Declares an enum that is stored and sent as fixed upper-case words.
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, $crate::serde::Serialize, $crate::serde::Deserialize, $crate::schemars::JsonSchema)]
        #[serde(crate = "::kernel::serde")]
        #[schemars(crate = "::kernel::schemars")]
        $vis enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }
        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The word it is stored and sent as.
            pub const fn word(self) -> &'static str { match self { $(Self::$variant => $word),+ } }
        }
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result { f.write_str(self.word()) }
        }
        impl ::std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                match text { $($word => Ok(Self::$variant),)+ _ => Err(format!("{text} is not one of {:?}", [$($word),+])) }
            }
        }
        impl $crate::store::Column for $name {
            const KIND: $crate::store::Kind = $crate::store::Kind::Text;
            fn to_value(&self) -> $crate::store::Value { $crate::store::Value::Text(self.word().to_owned()) }
            fn from_value(value: $crate::store::Value) -> ::std::result::Result<Self, $crate::store::Mismatch> {
                let text = <String as $crate::store::Column>::from_value(value)?;
                text.parse().map_err($crate::store::Mismatch)
            }
        }
    };
}
