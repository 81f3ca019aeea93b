//! The steps that passes over strips are made of.

use super::common::Common;
use super::fold::{self, ActivateFold, Fold, Tiles, Unfold, UnfoldActivate, UnfoldPull, with_scheme};
use super::matrix::Packed;
use super::pointwise::{Activate, Pull, Rows};
use super::product::{self, Start};
use super::walk::Walk;
use crate::conv::micro::{Finish, Spread};
use crate::cpu::CpuElement;
use inn_core::stack::Pointwise;
use std::marker::PhantomData;

impl<T: CpuElement, A: Pointwise> Common<'_, T, A> {
    /// Where products find array `e` that takes the place of a hidden one: that one itself, or what it was folded into.
    fn array(&self, at: &Rows, e: usize, x: *mut T, m: *mut T) -> (*mut T, usize) {
        self.plan.folding.map_or((x, self.plan.pitch), |folding| self.tiles(at, x, m).folded(folding, e))
    }

    /// Zeros what the last vectors of parts of hidden arrays hold beyond the strip's pixels: it meets the line after them in neighbourhoods, and
    /// sums over rows.
    ///
    /// # Safety
    /// The array has a row of whole vectors of tiles for each hidden channel; `row` is their distance.
    unsafe fn clear(&self, walk: &Walk, at: &Rows, (array, row): (*mut T, usize)) {
        let (tiles, len) = (walk.all_tiles(), at.len / self.plan.tile());
        for r in 0..if tiles < len { at.rows } else { 0 } {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(array.add(r * row + tiles), len - tiles) }.fill(T::default());
        }
    }

    /// The same for x, in all its parts, if kernels are folded, with the pixels of tiles beyond the ends of lines.
    ///
    /// # Safety
    /// As [`fold`](Self::fold).
    pub(super) unsafe fn clear_hidden(&self, walk: &Walk, at: &Rows, x: *mut T) {
        let (tile, part) = (self.plan.tile(), at.len / self.plan.tile());
        for k in 0..if self.plan.folding.is_some() { tile } else { 0 } {
            // SAFETY: the caller's promise.
            unsafe { self.clear(walk, at, (x.add(k * part), self.plan.pitch)) };
            let beyond = (walk.tiles - 1) * tile + k >= walk.count;
            for r in 0..if beyond { at.rows } else { 0 } {
                for last in (1..=walk.lines).map(|lines| lines * walk.tiles - 1) {
                    // SAFETY: as above, the last tile of a line.
                    unsafe { x.add(r * self.plan.pitch + k * part + last).write(T::default()) };
                }
            }
        }
    }

    /// Whether tiles reach beyond the ends of lines.
    fn reaches_beyond(&self, walk: &Walk) -> bool {
        walk.tiles * self.plan.tile() > walk.count
    }

    /// The parts of hidden arrays, and what they are folded into or come from in `m`.
    fn tiles(&self, at: &Rows, x: *mut T, m: *mut T) -> Tiles<T> {
        Tiles { rows: self.plan.hidden, len: at.len / self.plan.tile(), x, pitch: self.plan.pitch, m, piece: self.plan.piece }
    }

    /// Folds hidden arrays that are clear, if kernels are folded.
    ///
    /// # Safety
    /// `x` and `m` are arrays of hidden rows, `m` as many as the plan has.
    pub(super) unsafe fn fold(&self, at: &Rows, x: *mut T, m: *mut T) {
        if let Some(folding) = self.plan.folding {
            with_scheme!(folding, S => T::with(self.level, Fold(self.tiles(at, x, m), PhantomData::<S>)));
        }
    }

    /// What a product of y ends with that is not folded: x = ρ(y), if the activation can be applied as values pass.
    pub(super) fn apply(&self, x: *mut T) -> Finish<T> {
        self.slopes.map_or(Finish::Plain, |slopes| Finish::Apply { slopes, to: x, row: self.plan.pitch })
    }

    /// What a product of gX_i ends with that is not folded: gY_i = ρ'(Y_i) ⊙ gX_i, and the sums of its rows.
    pub(super) fn pull(&self, y: *const T, sums: *mut T) -> Finish<T> {
        let (row, lanes) = (self.plan.pitch, self.plan.lanes);
        self.slopes.map_or(Finish::Plain, |slopes| Finish::Pull { slopes, y, row, sums, lanes })
    }

    /// y = W b and a bias, and x = ρ(y) if there is a place for it, pixel by pixel; x may be y, and neither of them b.
    ///
    /// # Safety
    /// As [`times`](Packed::times).
    pub(super) unsafe fn layer(&self, w: &Packed<'_, T>, at: &Rows, b: *const T, y: *mut T, bias: *const T, x: Option<*mut T>) {
        let (row, vectors) = (self.plan.pitch, at.len / self.plan.lanes);
        let finish = x.map_or(Finish::Plain, |x| self.apply(x));
        // SAFETY: the caller's promise.
        unsafe { w.times(self.kernels, &self.tables, (b, Spread::even(row)), vectors, (y, row), Start::Values(bias), finish) };
        if let Some(x) = x {
            self.activate(at, y, x);
        }
    }

    /// gY_{i-1} = ρ'(Y_{i-1}) ⊙ W_iᵀ gY_i, pixel by pixel, and the sums of its rows.
    ///
    /// # Safety
    /// As [`times`](Packed::times); there is a vector for each of the sums.
    pub(super) unsafe fn layer_back(&self, w: &Packed<'_, T>, at: &Rows, g: *const T, y: *const T, next: *mut T, sums: *mut T) {
        let (row, vectors) = (self.plan.pitch, at.len / self.plan.lanes);
        // SAFETY: the caller's promise.
        unsafe { w.times(self.kernels, &self.tables, (g, Spread::even(row)), vectors, (next, row), Start::Zero, self.pull(y, sums)) };
        self.pull_rows(at, y, next, sums);
    }

    /// x = ρ(y), if that was not applied by a product.
    fn activate(&self, at: &Rows, y: *const T, x: *mut T) {
        if self.slopes.is_none() {
            T::with(self.level, Activate { at: *at, y, x, rho: self.rho });
        }
    }

    /// g = ρ'(y) g, and the sums of its rows, if that was not done by a product.
    fn pull_rows(&self, at: &Rows, y: *const T, g: *mut T, sums: *mut T) {
        if self.slopes.is_none() {
            T::with(self.level, Pull { at: *at, y, g, sums, lanes: self.plan.lanes, rho: self.rho });
        }
    }

    /// y, and x = ρ(y), from what [`to_hidden`](Self::to_hidden) has left in `m`, which lacks the bias, or in y.
    ///
    /// # Safety
    /// As [`fold`](Self::fold), for y too; there is a bias for each row.
    pub(super) unsafe fn unfold_activate(&self, at: &Rows, (y, m): (*mut T, *mut T), bias: *const T, x: *mut T) {
        let rho = self.rho;
        if let Some(folding) = self.plan.folding {
            let tiles = self.tiles(at, y, m);
            with_scheme!(folding, S => T::with(self.level, UnfoldActivate { tiles, bias, to: x, rho, scheme: PhantomData::<S> }));
        } else {
            self.activate(at, y, x);
        }
    }

    /// x = ρ(y), clear and folded into `m`, if kernels are folded; x may be y.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn activate_fold(&self, walk: &Walk, at: &Rows, y: *const T, (x, m): (*mut T, *mut T)) {
        if self.reaches_beyond(walk) {
            T::with(self.level, Activate { at: *at, y, x, rho: self.rho });
            // SAFETY: the caller's promise.
            unsafe {
                self.clear_hidden(walk, at, x);
                self.fold(at, x, m);
            }
        } else if let Some(folding) = self.plan.folding {
            let tiles = self.tiles(at, x, m);
            with_scheme!(folding, S => T::with(self.level, ActivateFold(tiles, y, self.rho, PhantomData::<S>)));
            // SAFETY: the caller's promise.
            unsafe {
                self.clear_hidden(walk, at, x);
                for e in 1..folding.parts() - 1 {
                    self.clear(walk, at, tiles.part(e));
                }
            }
        }
    }

    /// g = ρ'(y) g, and the sums of its rows, for what [`to_hidden`](Self::to_hidden) has left in `m`, or in g.
    ///
    /// # Safety
    /// As above; there is a vector for each of the sums.
    pub(super) unsafe fn unfold_pull(&self, walk: &Walk, at: &Rows, y: *const T, (g, m): (*mut T, *mut T), sums: *mut T) {
        let (lanes, rho) = (self.plan.lanes, self.rho);
        if let Some(folding) = self.plan.folding.filter(|_| self.reaches_beyond(walk)) {
            with_scheme!(folding, S => T::with(self.level, Unfold(self.tiles(at, g, m), PhantomData::<S>)));
            // SAFETY: the caller's promise.
            unsafe { self.clear_hidden(walk, at, g) };
            T::with(self.level, Pull { at: *at, y, g, sums, lanes, rho });
        } else if let Some(folding) = self.plan.folding {
            let tiles = self.tiles(at, g, m);
            for e in 0..folding.parts() {
                // SAFETY: the caller's promise.
                unsafe { self.clear(walk, at, tiles.part(e)) };
            }
            with_scheme!(folding, S => T::with(self.level, UnfoldPull { tiles, y, sums, lanes, rho, scheme: PhantomData::<S> }));
        } else {
            self.pull_rows(at, y, g, sums);
        }
    }

    /// Turns hidden arrays that are clear, or those that they are folded to, so that vectors run over the channels; see
    /// [`turn`](product::turn).
    ///
    /// # Safety
    /// As above; `to` has room for as many arrays of whole vectors of channels.
    pub(super) unsafe fn turn(&self, at: &Rows, x: *const T, to: *mut T, slopes: Option<[T; 2]>) {
        let (rows, row) = (self.plan.hidden, self.plan.pitch);
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(folding) = self.plan.folding {
                let columns = at.len / folding.tile();
                let apart = self.plan.wide() * columns;
                (self.kernels.folded(folding).turn)(&fold::Turn { from: x, row, rows, columns, to, apart, slopes });
            } else {
                product::turn(self.kernels, (x, row), rows, at.len, to, slopes);
            }
        }
    }

    /// The same for x = ρ(y), which is clear where arrays are folded; `x` has room for it.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn turn_activated(&self, walk: &Walk, at: &Rows, y: *const T, x: *mut T, to: *mut T) {
        let clear = self.plan.folding.is_none() || walk.pixels() == at.len;
        // SAFETY: the caller's promise.
        unsafe {
            if self.slopes.is_some() && clear {
                return self.turn(at, y, to, self.slopes);
            }
            T::with(self.level, Activate { at: *at, y, x, rho: self.rho });
            self.clear_hidden(walk, at, x);
            self.turn(at, x, to, None);
        }
    }

    /// Turns x = ρ(y), pixel by pixel.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn turn_layer(&self, at: &Rows, y: *const T, x: *mut T, to: *mut T) {
        self.activate(at, y, x);
        let from = if self.slopes.is_some() { y } else { x };
        // SAFETY: the caller's promise.
        unsafe { product::turn(self.kernels, (from, self.plan.pitch), self.plan.hidden, at.len, to, self.slopes) };
    }

    /// x = W of the rows of one part after the other, for the `way` to a hidden array from neighbourhoods of part `i` in `edge`; where x is
    /// not folded, with a bias, and what it finishes with after the last `of` as many parts.
    ///
    /// # Safety
    /// As [`times`](Packed::times).
    pub(super) unsafe fn to_hidden(
        &self,
        way: &[Packed<'_, T>],
        walk: &Walk,
        at: &Rows,
        ((i, of), edge): ((usize, usize), *const T),
        (x, m): (*mut T, *mut T),
        (bias, finish): (Option<*const T>, Finish<T>),
    ) {
        let vectors = self.edge_vectors(at);
        let finish = if self.plan.folding.is_none() && i + 1 == of { finish } else { Finish::Plain };
        for (e, w) in way.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = if self.plan.folding.is_some() { self.tiles(at, x, m).part(e) } else { (x, self.plan.pitch) };
                let (from, rows) = self.edge(walk, e);
                let start = match bias {
                    _ if i > 0 => Start::Output,
                    Some(bias) if self.plan.folding.is_none() => Start::Values(bias),
                    _ => Start::Zero,
                };
                w.times(self.kernels, &self.tables, (edge.add(from), rows), vectors, to, start, finish);
            }
        }
    }

    /// Rows of neighbourhoods from hidden arrays that are folded already, and a bias. Rows that are one another, shifted by lines, are added
    /// up.
    ///
    /// # Safety
    /// As [`times`](Packed::times).
    pub(super) unsafe fn to_edge(
        &self,
        way: &[Packed<'_, T>],
        walk: &Walk,
        at: &Rows,
        (x, m): (*mut T, *mut T),
        edge: *mut T,
        bias: Option<*const T>,
    ) {
        let (vectors, row, known) = (self.edge_vectors(at), self.edge_row(), walk.all_tiles());
        for (e, w) in way.chunks(self.plan.shifts()).enumerate() {
            let (from, from_row) = self.array(at, e, x, m);
            let (start, rows) = self.edge(walk, e);
            let folded = self.plan.folding.is_some();
            let (shift, apart) = if folded { (rows.row, rows.apart) } else { (0, row) };
            // SAFETY: the caller's promise.
            unsafe {
                if folded {
                    for r in 0..w[0].rows() {
                        std::slice::from_raw_parts_mut(edge.add(start + r * apart + known), row - known).fill(T::default());
                    }
                }
                for (i, w) in w.iter().enumerate() {
                    let to = (edge.add(start + i * shift), apart);
                    let start = if i > 0 { Start::Output } else { bias.map_or(Start::Zero, Start::Values) };
                    w.times(self.kernels, &self.tables, (from, Spread::even(from_row)), vectors, to, start, Finish::Plain);
                }
            }
        }
    }
}
