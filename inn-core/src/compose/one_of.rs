//! Layers that hand every question on to another: views, and enums of layers.

/// The methods of [`Invertible`](crate::Invertible) but `name` and `walk`, each answered by the layer of a pattern, with the direction as `$dir` turns it.
#[doc(hidden)]
#[macro_export]
macro_rules! delegate_maps {
    ($self:ident, $dir:ident => $turned:expr; $($pattern:pat => $layer:expr),+ $(,)?) => {
        fn check(&$self, $dir: $crate::Direction, facts: $crate::Facts<'_>, input: $crate::Shape) -> $crate::Result<$crate::Shape> {
            match $self {
                $($pattern => $layer.check($turned, facts, input)),+
            }
        }
        fn map<B: $crate::Backend>(
            &$self,
            $dir: $crate::Direction,
            at: &$crate::Inputs<'_, B>,
            x: &mut $crate::ViewMut<'_, B>,
            logdet: &mut $crate::ViewMut<'_, B>,
        ) -> $crate::Result<()> {
            match $self {
                $($pattern => $layer.map($turned, at, x, logdet)),+
            }
        }
        fn pull<B: $crate::Backend>(
            &$self,
            $dir: $crate::Direction,
            at: &$crate::Inputs<'_, B>,
            y: &mut $crate::ViewMut<'_, B>,
            gy: &mut $crate::ViewMut<'_, B>,
            gl: $crate::View<'_, B>,
            grads: &mut $crate::Gradients<'_, B>,
        ) -> $crate::Result<()> {
            match $self {
                $($pattern => $layer.pull($turned, at, y, gy, gl, grads)),+
            }
        }
        fn initialize<B: $crate::Backend>(
            &$self,
            $dir: $crate::Direction,
            at: &mut $crate::Setup<'_, B>,
            x: &mut $crate::ViewMut<'_, B>,
        ) -> $crate::Result<()> {
            match $self {
                $($pattern => $layer.initialize($turned, at, x)),+
            }
        }
    };
}

/// The same, and `walk`.
#[doc(hidden)]
#[macro_export]
macro_rules! delegate {
    ($self:ident, $dir:ident => $turned:expr; $($pattern:pat => $layer:expr),+ $(,)?) => {
        $crate::delegate_maps!($self, $dir => $turned; $($pattern => $layer),+);
        fn walk<B: $crate::Backend, V: $crate::Visitor<B>>(
            &$self,
            path: &str,
            $dir: $crate::Direction,
            at: &$crate::Inputs<'_, B>,
            x: &mut $crate::ViewMut<'_, B>,
            visitor: &mut V,
        ) -> $crate::Result<()> {
            match $self {
                $($pattern => $layer.walk(path, $turned, at, x, visitor)),+
            }
        }
    };
}

/// An enum whose variants hold a layer each, and which is a layer: the one that it holds.
///
/// For networks whose layers a configuration chooses. Large layers go into a `Box`.
/// ```
/// use inn_core::{Direction, Invertible, Reversed, Squeeze};
///
/// inn_core::one_of! {
///     /// A squeeze or an unsqueeze.
///     #[derive(Clone, Debug)]
///     pub enum Resize {
///         /// Halves the extents.
///         Coarsen(Squeeze),
///         /// Doubles them.
///         Refine(Reversed<Squeeze>),
///     }
/// }
/// assert_eq!(Resize::Coarsen(Squeeze::Haar).name(), "Haar squeeze");
/// assert_eq!(Resize::Refine(Reversed(Squeeze::Haar)).name(), "Reversed Haar squeeze");
/// ```
#[macro_export]
macro_rules! one_of {
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident {
        $($(#[$of_variant:meta])* $variant:ident($layer:ty)),+ $(,)?
    }) => {
        $(#[$attribute])*
        $visibility enum $name {
            $($(#[$of_variant])* $variant($layer)),+
        }

        impl $crate::Invertible for $name {
            $crate::delegate!(self, dir => dir; $(Self::$variant(layer) => layer),+);
            fn name(&self) -> String {
                match self {
                    $(Self::$variant(layer) => layer.name()),+
                }
            }
        }
    };
}
