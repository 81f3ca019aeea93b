//! Projections: nearest, in the set, nonexpansive; distances with their gradients.

use inn_core::{Shape, Tensor};
use inn_ops::Cpu;
use inn_ops::projection::{
    self, Annulus, Bounds, Cardinality, Intersection, L1Ball, L2Ball, Over, Set, Simplex, Slab, TotalVariation, Variation,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Uniform in (-scale, scale).
fn random(seed: u64, n: usize, scale: f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| scale * ((rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)).collect()
}

fn shape(channels: usize, spatial: &[usize]) -> Shape {
    Shape::new(1, channels, spatial).unwrap()
}

fn nearest(set: &dyn Set, shape: Shape, x: &[f64]) -> Vec<f64> {
    let mut p = x.to_vec();
    set.nearest(shape, &mut p).unwrap();
    p
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance), "{a:?}\n{b:?}");
}

/// A convex set, what its samples look like, and how accurately it is solved.
type Case = (&'static str, Box<dyn Set>, Shape, f64);

fn convex() -> Vec<Case> {
    let (row, image, volume, series) = (shape(12, &[]), shape(2, &[5, 4]), shape(1, &[3, 4, 3]), shape(1, &[17]));
    let variation = |radius, kind| Box::new(TotalVariation::new(radius, kind).unwrap().with_stopping(1e-7, 100_000).unwrap());
    let limits: Vec<f64> = random(7, 12, 1.0).iter().map(|v| v.abs()).collect();
    let low: Vec<f64> = limits.iter().map(|v| -v).collect();
    let sets: Vec<Box<dyn Set>> = vec![Box::new(Bounds::new(0.0, 1.0).unwrap()), Box::new(Slab::sum(3.0, 4.0).unwrap())];
    let exact = 1e-12;
    vec![
        ("bounds", Box::new(Bounds::new(-0.5, 0.25).unwrap()), image, exact),
        ("nonnegative", Box::new(Bounds::nonnegative()), row, exact),
        ("bounds of each", Box::new(Bounds::each(&low, &limits).unwrap()), row, exact),
        ("half-space", Box::new(Slab::half_space(&random(3, 12, 1.0), -4.0).unwrap()), row, exact),
        ("hyperplane", Box::new(Slab::hyperplane(&random(4, 12, 5.0), 0.3).unwrap()), row, exact),
        ("bounds on the sum", Box::new(Slab::sum(2.0, 2.5).unwrap()), image, exact),
        ("simplex", Box::new(Simplex::new(1.5, Over::Sample).unwrap()), image, exact),
        ("simplex of channels", Box::new(Simplex::new(1.0, Over::Channels).unwrap()), image, exact),
        ("l1 ball", Box::new(L1Ball::new(1.3).unwrap()), row, exact),
        ("l1 ball around", Box::new(L1Ball::around(&random(5, 12, 1.0), 0.8).unwrap()), row, exact),
        ("l2 ball", Box::new(L2Ball::new(0.9).unwrap()), image, exact),
        ("l2 ball around", Box::new(L2Ball::around(&random(6, 12, 1.0), 0.4).unwrap()), row, exact),
        ("anisotropic variation", variation(2.0, Variation::Anisotropic), image, 1e-6),
        ("isotropic variation", variation(2.0, Variation::Isotropic), image, 1e-6),
        ("variation of a volume", variation(1.5, Variation::Isotropic), volume, 1e-6),
        ("variation of a series", variation(1.5, Variation::Anisotropic), series, 1e-6),
        ("box and sum", Box::new(Intersection::new(sets).unwrap()), row, 1e-7),
    ]
}

#[test]
fn nearest_points_of_convex_sets() {
    for (name, set, shape, tolerance) in convex() {
        let n = shape.sample_len();
        let points: Vec<Vec<f64>> = (0..12).map(|seed| random(seed, n, 2.0)).collect();
        let projected: Vec<Vec<f64>> = points.iter().map(|x| nearest(set.as_ref(), shape, x)).collect();
        let mut moved = 0.0;
        for (x, p) in points.iter().zip(&projected) {
            let excess = set.excess(shape, p);
            assert!(excess <= tolerance, "{name}: P(x) exceeds by {excess:e}");
            close(&nearest(set.as_ref(), shape, p), p, 10.0 * tolerance);
            moved += length(&minus(x, p));
            // p is nearest where x - p makes an obtuse angle with what leads from p into the set; and P brings no two points apart.
            for (y, z) in points.iter().zip(&projected) {
                let angle = dot(&minus(x, p), &minus(z, p));
                assert!(angle <= 20.0 * tolerance, "{name}: {angle:e} towards another point of the set");
                let (before, after) = (length(&minus(x, y)), length(&minus(p, z)));
                assert!(after <= before + 10.0 * tolerance, "{name}: {before} apart became {after}");
            }
        }
        assert!(moved > 1.0, "{name}: the points lay in the set");
    }
}

#[test]
fn the_gradient_is_what_leads_away_from_the_nearest_point() {
    let cpu = Cpu::<f64>::new();
    for (name, set, shape, tolerance) in convex() {
        let n = shape.sample_len();
        let (x, v) = (random(20, n, 2.0), random(21, n, 1.0));
        let tensor = |x: &[f64]| Tensor::from_slice(&cpu, shape, x).unwrap();
        let mut g = Tensor::zeros(&cpu, shape).unwrap();
        let d = projection::distance_with_gradient(set.as_ref(), 1.0, &tensor(&x), &mut g).unwrap();
        assert!(d.values[0] > 1e-3, "{name}");
        assert_eq!(projection::distance(set.as_ref(), &tensor(&x)).unwrap(), d);
        // d is convex and its gradient is nonexpansive: the remainder of first order lies between 0 and h²/2 |v|².
        for k in 0..8 {
            let h = 0.5f64.powi(k);
            let ahead: Vec<f64> = x.iter().zip(&v).map(|(x, v)| x + h * v).collect();
            let ahead = projection::distance(set.as_ref(), &tensor(&ahead)).unwrap().values[0];
            let remainder = ahead - d.values[0] - h * dot(g.slice(), &v);
            let (bound, rounding) = (0.5 * h * h * dot(&v, &v), 20.0 * tolerance);
            assert!((-rounding..bound + rounding).contains(&remainder), "{name}, h = {h}: {remainder:e} beyond 0 to {bound:e}");
        }
        // The weight of a mean over a batch.
        let mut half = Tensor::zeros(&cpu, shape).unwrap();
        projection::distance_with_gradient(set.as_ref(), 0.5, &tensor(&x), &mut half).unwrap();
        close(&half.slice().iter().map(|v| 2.0 * v).collect::<Vec<_>>(), g.slice(), 1e-14);
    }
}

/// By sorting: Held, Wolfe & Crowder 1974.
fn simplex_by_sorting(y: &[f64], total: f64) -> Vec<f64> {
    let mut sorted = y.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut tau) = (0.0, 0.0);
    for (k, v) in sorted.iter().enumerate() {
        sum += v;
        let candidate = (sum - total) / (k + 1) as f64;
        if *v > candidate {
            tau = candidate;
        }
    }
    y.iter().map(|v| (v - tau).max(0.0)).collect()
}

#[test]
fn the_simplex_against_sorting() {
    for (seed, n) in [(0, 1), (1, 2), (2, 7), (3, 100), (4, 5000)] {
        for total in [1e-3, 1.0, 50.0] {
            let mut y = random(seed, n, 3.0);
            // Equal values, descending and ascending runs.
            y.iter_mut().step_by(3).for_each(|v| *v = 0.5);
            let shape = Shape::rows(1, n);
            let simplex = Simplex::new(total, Over::Sample).unwrap();
            for order in 0..3 {
                match order {
                    1 => y.sort_by(f64::total_cmp),
                    2 => y.reverse(),
                    _ => {}
                }
                close(&nearest(&simplex, shape, &y), &simplex_by_sorting(&y, total), 1e-12);
                let signs: Vec<f64> = y.iter().map(|v| v.signum()).collect();
                let sizes: Vec<f64> = y.iter().map(|v| v.abs()).collect();
                let ball = nearest(&L1Ball::new(total).unwrap(), shape, &y);
                if sizes.iter().sum::<f64>() > total {
                    let expected: Vec<f64> = simplex_by_sorting(&sizes, total).iter().zip(signs).map(|(v, s)| v * s).collect();
                    close(&ball, &expected, 1e-12);
                } else {
                    assert_eq!(ball, y);
                }
            }
        }
    }
    // Nothing is left of a simplex or ball without extent.
    assert_eq!(nearest(&Simplex::new(0.0, Over::Sample).unwrap(), shape(3, &[]), &[1.0, 1.0, -2.0]), [0.0; 3]);
    assert_eq!(nearest(&L1Ball::around(&[1.0, 2.0], 0.0).unwrap(), shape(2, &[]), &[5.0, -2.0]), [1.0, 2.0]);
    // Each pixel's channels, which lie apart.
    let p = nearest(&Simplex::new(1.0, Over::Channels).unwrap(), shape(2, &[2]), &[3.0, 0.5, 1.0, 0.1]);
    close(&p, &[1.0, 0.7, 0.0, 0.3], 1e-15);
}

#[test]
fn sets_that_are_not_convex() {
    // All ways to raise, keep or drop each of five values.
    let (n, size) = (5usize, 0.6);
    for (least, most) in [(0, 2), (2, 3), (3, 3), (0, 0), (5, 5), (1, 9)] {
        let set = if least == 0 { Cardinality::at_most(most) } else { Cardinality::range(least, most, size).unwrap() };
        for seed in 0..20 {
            let mut x = random(seed, n, 1.0);
            x[seed as usize % n] = 0.0;
            let mut best = f64::INFINITY;
            for ways in 0..3u32.pow(n as u32) {
                let way = |i: usize| ways / 3u32.pow(i as u32) % 3;
                let count = |w| (0..n).filter(|&i| way(i) == w).count();
                if count(0) == least && count(0) + count(1) <= most {
                    let cost = |i: usize| match way(i) {
                        0 => (size - x[i].abs()).max(0.0).powi(2),
                        1 => 0.0,
                        _ => x[i] * x[i],
                    };
                    best = best.min((0..n).map(cost).sum());
                }
            }
            let p = nearest(&set, Shape::rows(1, n), &x);
            let d = minus(&x, &p);
            assert!((dot(&d, &d) - best).abs() < 1e-14, "{least} to {most}: {x:?} to {p:?}");
            assert_eq!(set.excess(Shape::rows(1, n), &p), 0.0);
            assert_eq!(nearest(&set, Shape::rows(1, n), &p), p);
        }
    }
    assert_eq!(Cardinality::at_most(1).excess(shape(3, &[]), &[1.0, 2.0, 3.0]), 2.0);
    let annulus = Annulus::around(&[1.0, 1.0], 2.0, 3.0).unwrap();
    let row = shape(2, &[]);
    close(&nearest(&annulus, row, &[1.0, 2.0]), &[1.0, 3.0], 1e-15);
    close(&nearest(&annulus, row, &[1.0, -9.0]), &[1.0, -2.0], 1e-15);
    assert_eq!(nearest(&annulus, row, &[1.0, 3.5]), [1.0, 3.5]);
    assert_eq!(nearest(&annulus, row, &[1.0, 1.0]), [3.0, 1.0]);
    assert!(!annulus.is_convex() && Annulus::new(0.0, 1.0).unwrap().is_convex());
}

#[test]
fn total_variation_of_a_step() {
    // Both halves of a step move towards each other until it is r high.
    for kind in [Variation::Anisotropic, Variation::Isotropic] {
        let set = TotalVariation::new(0.5, kind).unwrap();
        let mut x = [0.0, 0.0, 0.0, 2.0, 2.0, 2.0];
        let solved = set.nearest(shape(1, &[6]), &mut x).unwrap();
        close(&x, &[0.75, 0.75, 0.75, 1.25, 1.25, 1.25], 2.0 * solved.residual);
        assert!(solved.residual < 1e-5 && solved.iterations > 0);
        // A step across the rows of an image, three pixels wide.
        let image: Vec<f64> = (0..12).map(|i| if i < 6 { 0.0 } else { 2.0 }).collect();
        let p = nearest(&set, shape(1, &[4, 3]), &image);
        close(&p, &(0..12).map(|i| if i < 6 { 1.0 - 0.25 / 3.0 } else { 1.0 + 0.25 / 3.0 }).collect::<Vec<_>>(), 1e-5);
        // A radius of zero leaves the means of the channels, and nothing moves inside.
        close(&nearest(&TotalVariation::new(0.0, kind).unwrap(), shape(2, &[2]), &[1.0, 2.0, 5.0, 5.0]), &[1.5, 1.5, 5.0, 5.0], 0.0);
        assert_eq!(nearest(&set, shape(1, &[3]), &[0.1, 0.2, 0.5]), [0.1, 0.2, 0.5]);
    }
    // One corner: |(3, 4)| = 5 against 7.
    let corner = [0.0, 3.0, 4.0, 4.0];
    let of = |kind| TotalVariation::new(0.0, kind).unwrap().excess(shape(1, &[2, 2]), &corner);
    assert_eq!((of(Variation::Isotropic), of(Variation::Anisotropic)), (5.0 + 1.0, 3.0 + 4.0 + 1.0));
}

#[test]
fn intersections() {
    let row = shape(8, &[]);
    // The simplex is the nonnegative part of a hyperplane.
    let sets: Vec<Box<dyn Set>> = vec![Box::new(Bounds::nonnegative()), Box::new(Slab::sum(1.0, 1.0).unwrap())];
    let both = Intersection::new(sets).unwrap().with_stopping(1e-12, 10_000).unwrap();
    for seed in 0..10 {
        let x = random(seed, 8, 1.0);
        let mut p = x.clone();
        let solved = both.nearest(row, &mut p).unwrap();
        close(&p, &simplex_by_sorting(&x, 1.0), 1e-10);
        assert!(solved.iterations > 1 && solved.residual < 1e-11, "{solved:?}");
    }
    // With a ball of bounded variation: few edges, small, between 0 and 1.
    let image = shape(1, &[6, 6]);
    let sets: Vec<Box<dyn Set>> = vec![
        Box::new(Bounds::new(0.0, 1.0).unwrap()),
        Box::new(Slab::sum(4.0, 6.0).unwrap()),
        Box::new(TotalVariation::new(3.0, Variation::Isotropic).unwrap().with_stopping(1e-7, 100_000).unwrap()),
    ];
    let set = Intersection::new(sets).unwrap().with_stopping(1e-5, 10_000).unwrap();
    let mut x = random(1, 36, 2.0);
    let solved = set.nearest(image, &mut x).unwrap();
    assert!(solved.residual < 2e-4 && set.excess(image, &x) < 2e-3, "{solved:?}");

    // Eight values of at most 1 do not sum to 9.
    let sets: Vec<Box<dyn Set>> = vec![Box::new(Bounds::new(0.0, 1.0).unwrap()), Box::new(Slab::sum(9.0, f64::INFINITY).unwrap())];
    let none = Intersection::new(sets).unwrap().with_stopping(1e-8, 500).unwrap();
    let error = none.nearest(row, &mut random(0, 8, 1.0)).unwrap_err().to_string();
    assert!(error.contains("no common point") && error.contains("500 rounds"), "{error}");
}

#[test]
fn batches_and_number_types() {
    let shape = Shape::new(5, 2, &[4, 3]).unwrap();
    let n = shape.sample_len();
    let x = random(9, shape.len(), 2.0);
    let set = L1Ball::new(3.0).unwrap();
    let mut wide = Tensor::from_slice(&Cpu::<f64>::new(), shape, &x).unwrap();
    let distances = projection::distance(&set, &wide).unwrap();
    projection::project(&set, &mut wide).unwrap();
    for (i, x) in x.chunks_exact(n).enumerate() {
        let p = nearest(&set, shape.with_batch(1), x);
        assert_eq!(&wide.slice()[i * n..(i + 1) * n], &p[..]);
        let d = minus(x, &p);
        assert!((distances.values[i] - 0.5 * dot(&d, &d)).abs() < 1e-14);
    }
    let mut narrow = Tensor::from_f64(&Cpu::<f32>::new(), shape, &x).unwrap();
    projection::project(&set, &mut narrow).unwrap();
    assert!(narrow.slice().iter().zip(wide.slice()).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6));
    assert_eq!(projection::contains(&set, &narrow, 1e-5).unwrap(), [true; 5]);
    assert_eq!(projection::contains(&L1Ball::new(2.9).unwrap(), &narrow, 1e-5).unwrap(), [false; 5]);
}

#[test]
fn what_cannot_be_is_refused() {
    let says = |error: inn_core::Error, text: &str| assert!(error.to_string().contains(text), "{error}");
    // Empty sets.
    says(Bounds::new(1.0, 0.0).unwrap_err(), "empty");
    says(Bounds::new(f64::NAN, 0.0).unwrap_err(), "empty");
    says(Bounds::each(&[0.0, 1.0], &[1.0, 0.0]).unwrap_err(), "empty");
    says(Bounds::each(&[0.0], &[1.0, 0.0]).unwrap_err(), "upper bounds");
    says(Slab::sum(2.0, 1.0).unwrap_err(), "empty");
    says(Slab::hyperplane(&[1.0], f64::INFINITY).unwrap_err(), "empty");
    says(Slab::half_space(&[0.0, 0.0], 1.0).unwrap_err(), "positive length");
    says(Slab::half_space(&[f64::NAN], 1.0).unwrap_err(), "finite");
    says(Simplex::new(-1.0, Over::Sample).unwrap_err(), "empty");
    says(L1Ball::new(-1.0).unwrap_err(), "empty");
    says(L2Ball::new(f64::NAN).unwrap_err(), "radius");
    says(L2Ball::around(&[f64::INFINITY], 1.0).unwrap_err(), "centre");
    says(Annulus::new(2.0, 1.0).unwrap_err(), "empty");
    says(Cardinality::range(3, 2, 1.0).unwrap_err(), "empty");
    says(Cardinality::range(1, 2, 0.0).unwrap_err(), "closed");
    says(TotalVariation::new(-1.0, Variation::Isotropic).unwrap_err(), "empty");
    says(Intersection::new(Vec::new()).err().unwrap(), "at least one set");
    says(Intersection::new(vec![Box::new(Cardinality::at_most(1))]).err().unwrap(), "convex");

    says(TotalVariation::new(1.0, Variation::Isotropic).unwrap().with_stopping(1e-9, 10).unwrap_err(), "1e-7");

    // Tensors; what was there is still there.
    let cpu = Cpu::<f32>::new();
    let values = [1.0, f32::NAN, 5.0, 7.0];
    let mut x = Tensor::from_slice(&cpu, Shape::rows(1, 4), &values).unwrap();
    says(projection::project(&L2Ball::new(1.0).unwrap(), &mut x).unwrap_err(), "index 1");
    says(projection::distance(&Bounds::nonnegative(), &x).unwrap_err(), "NaN");
    says(projection::excess(&Bounds::nonnegative(), &x).unwrap_err(), "NaN");
    assert_eq!(x.slice()[2..], values[2..]);
    let mut x = Tensor::from_slice(&cpu, Shape::rows(1, 4), &[1.0, 2.0, 5.0, 7.0]).unwrap();
    let sets: [(Box<dyn Set>, &str); 5] = [
        (Box::new(Slab::half_space(&[1.0; 3], 1.0).unwrap()), "3 values"),
        (Box::new(L1Ball::around(&[1.0; 5], 1.0).unwrap()), "5 values"),
        (Box::new(Cardinality::range(5, 9, 1.0).unwrap()), "at least 5"),
        (Box::new(TotalVariation::new(1.0, Variation::Isotropic).unwrap()), "spatial axes"),
        (Box::new(Bounds::each(&[0.0; 2], &[1.0; 2]).unwrap()), "2 values"),
    ];
    for (set, text) in &sets {
        says(projection::project(set, &mut x).unwrap_err(), text);
    }
    let mut g = Tensor::zeros(&cpu, Shape::rows(2, 4)).unwrap();
    says(projection::distance_with_gradient(&Bounds::nonnegative(), 1.0, &x, &mut g).unwrap_err(), "gradient");
    says(projection::contains(&Bounds::nonnegative(), &x, f64::NAN).unwrap_err(), "tolerance");
    let short = TotalVariation::new(0.1, Variation::Isotropic).unwrap().with_stopping(1e-7, 1).unwrap();
    let mut series = Tensor::from_slice(&cpu, Shape::new(1, 1, &[4]).unwrap(), &[1.0, 2.0, 0.0, 7.0]).unwrap();
    says(projection::project(&short, &mut series).unwrap_err(), "after 1 iterations");
    assert_eq!(series.slice(), [1.0, 2.0, 0.0, 7.0]);
    // Numbers whose squares overflow.
    let mut huge = Tensor::from_slice(&Cpu::<f64>::new(), Shape::rows(1, 2), &[3e200, 4e200]).unwrap();
    projection::project(&L2Ball::new(5.0).unwrap(), &mut huge).unwrap();
    close(huge.slice(), &[3.0, 4.0], 1e-12);
}
