//! The words a manifest may choose between, each set one enum: what the parser takes, what its
//! errors list and what is written back come from the same lines. What the words mean is decided
//! elsewhere; the registry knows no backend.

/// Defines an enum and the word of each variant.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident is a $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every choice, in the order the documentation lists them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that a manifest uses.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Choice for $name {
            const WHAT: &str = $what;
            const WORDS: &[&str] = &[$($word),+];

            fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// What the parser needs of such an enum.
pub(super) trait Choice: Sized {
    /// What is chosen, for messages: "unknown backend …".
    const WHAT: &str;
    /// The words, in order.
    const WORDS: &[&str];
    /// The choice of that word.
    fn from_word(word: &str) -> Option<Self>;
}

choice! {
    /// What runs a graph.
    GraphBackend is a "backend" {
        /// The best backend present that loads the graph.
        Auto = "auto",
        /// ONNX Runtime.
        Onnxruntime = "onnxruntime",
        /// OpenVINO.
        Openvino = "openvino",
        /// The engine compiled into Aegis.
        Embedded = "embedded",
    }
}

choice! {
    /// The hardware a graph runs on.
    GraphTarget is a "target" {
        /// The processor.
        Cpu = "cpu",
        /// A graphics processor.
        Gpu = "gpu",
    }
}

choice! {
    /// In what precision a backend may compute an f32 graph.
    Precision is a "precision" {
        /// f32 throughout: answers agree between backends and machines to about 1e-4.
        F32 = "f32",
        /// Whatever the backend thinks fastest on the machine, bf16 or f16 among it.
        BackendDefault = "backend-default",
    }
}

choice! {
    /// Something that `lifecycle.init` may draw on, although what it draws is frozen into every
    /// instance of the version.
    InitGrant is a "grant" {
        /// `wasi:random/random`: all instances will share what was drawn.
        SecureRandom = "secure-random",
        /// `wasi:clocks/wall-clock`: the time of the upload.
        WallClock = "wall-clock",
    }
}
