//! Matrices on the channels of every pixel, in every form.

mod common;

use common::{check, shape};
use inn_core::{Error, Layout};
use inn_layers::conv1x1::{Conv1x1, Form};

#[test]
fn every_form_is_exact_in_every_mode() {
    let forms = [Form::Lu { order: None }, Form::Cayley, Form::Exponential, Form::Free];
    let shapes = [shape(3, 2, &[]), shape(1, 5, &[4]), shape(2, 3, &[3, 2]), shape(2, 4, &[2, 1, 3])];
    for (i, form) in forms.iter().enumerate() {
        for j in [0, 1 + i % 3, 1 + (i + 1) % 3] {
            let shape = shapes[j];
            check(&format!("{form:?}"), shape, &[], |scope| Conv1x1::new(scope, shape.channels(), form.clone(), 0.6));
        }
    }
    let form = Form::Lu { order: Some(vec![2, 0, 3, 1, 4]) };
    check("LU with an order", shape(2, 5, &[3]), &[], |scope| Conv1x1::new(scope, 5, form.clone(), 0.6));
    check("one channel", shape(2, 1, &[3]), &[], |scope| Conv1x1::new(scope, 1, Form::Lu { order: None }, 0.6));
}

#[test]
fn an_order_has_to_be_a_permutation() {
    for order in [vec![0, 1], vec![0, 1, 1], vec![1, 2, 3]] {
        let form = Form::Lu { order: Some(order) };
        let refused = Layout::build(|scope| Conv1x1::new(scope, 3, form, 0.1)).err().unwrap();
        assert!(matches!(refused, Error::Config { .. }), "{refused}");
    }
}
