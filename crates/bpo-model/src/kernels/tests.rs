//! Compares each fused operation with its chain, forward and backward.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::decoder::Rope;
use crate::decoder::{DecoderConfig, Positions};

/// Values between -6 and 6, mostly small. The generator is not the device's: that one has one state
/// for all threads, and other tests draw from it at the same time.
fn values<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || (0..3).map(|_| rng.random_range(-2.0..2.0_f32)).sum();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    values(shape, seed, device).require_grad()
}

/// The same input without a gradient.
fn frozen<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    Tensor::from_inner(random(shape, seed, device).inner())
}

fn close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let size = expected.clone().abs().max().into_scalar::<f32>().max(1e-3);
    let error = (found - expected).abs().max().into_scalar::<f32>();
    assert!(error <= 1e-5 * size, "{what}: {error} at {size}");
}

/// Values and gradients, given inputs and the gradient of the output.
fn check<const N: usize, const D: usize, const E: usize>(
    what: &str,
    inputs: [Tensor<D>; N],
    fused: impl Fn([Tensor<D>; N]) -> Tensor<E>,
    plain: impl Fn([Tensor<D>; N]) -> Tensor<E>,
) {
    let device = inputs[0].device();
    let (a, b) = (fused(inputs.clone()), plain(inputs.clone()));
    let weight = random(b.dims(), 99, &device).detach();
    close(what, a.clone().inner(), b.clone().inner());
    let (a, b) = ((a * weight.clone()).sum().backward(), (b * weight).sum().backward());
    for (at, input) in inputs.iter().enumerate() {
        let of = |gradients| input.grad(gradients).unwrap();
        close(&format!("gradient {at} of {what}"), of(&a), of(&b));
    }
    // without autodiff
    let plain_inputs = inputs.map(Tensor::inner);
    close(what, fused(plain_inputs.clone()), plain(plain_inputs));
}

/// Devices whose backend has functions of its own.
#[allow(deprecated, reason = "LibTorch is, in burn 0.22")]
fn devices() -> Vec<Device> {
    vec![
        #[cfg(feature = "flex")]
        Device::flex(),
        #[cfg(feature = "tch")]
        Device::libtorch(),
    ]
}

#[test]
fn loops_are_their_chains() {
    devices().into_iter().for_each(|device| loops_of(device.autodiff()));
}

fn loops_of(device: Device) {
    for [rows, heads, tokens, width] in [[2, 3, 5, 8], [1, 1, 1, 2], [2, 9, 70, 64], [3, 2, 17, 130]] {
        let shape = [rows, heads, tokens, width];
        let x = |seed| random(shape, seed, &device);
        let hidden = |seed| random([rows, heads * tokens, width], seed, &device);

        let blocked = random([rows, 1, tokens, width], 7, &device).detach().greater_elem(1.0).float();
        // every row has a key that is not masked
        let mask = blocked.mul_scalar(-1e9).slice_fill([0..rows, 0..1, 0..tokens, 0..1], 0.0);
        check("softmax", [x(1)], |[x]| softmax(x, mask.clone()), |[x]| plain::softmax(x, mask.clone()));
        let nothing = || unmasked(width, &device);
        check("softmax", [x(1)], |[x]| softmax(x, nothing()), |[x]| plain::softmax(x, nothing()));
        let flat = |[x]: [Tensor<4>; 1]| x.reshape([rows * heads * tokens, width]);
        check("log softmax", [x(2)], |x| log_softmax(flat(x)), |x| plain::log_softmax(flat(x)));
        for beta in [1.0, 1.702] {
            check("swish", [hidden(3)], |[x]| swish(x, beta), |[x]| plain::swish(x, beta));
        }
        check("gelu", [hidden(3)], |[x]| gelu_tanh(x), |[x]| plain::gelu_tanh(x));
        check("swiglu", [hidden(3), hidden(4)], |[a, b]| swiglu(a, b), |[a, b]| plain::swiglu(a, b));

        let text: DecoderConfig = serde_json::from_value(
            serde_json::json!({ "hidden_size": width, "num_attention_heads": 1, "num_hidden_layers": 1 }),
        )
        .unwrap();
        let positions: Vec<_> = (0..rows).map(|row| Positions::sequential(row, tokens)).collect();
        let tables = Rope::new(&text).tables(&positions, burn::tensor::FloatDType::F32, &device);
        let apart = |[x]: [Tensor<3>; 1]| plain::rotate(x, tables.cos.clone(), tables.sin.clone());
        let x = random([rows * tokens, heads, width], 5, &device);
        check("rotation", [x.clone()], |[x]| rotate(x, &tables), apart);
        #[cfg(feature = "tch")]
        check("rotation by products", [x.clone()], |[x]| x.matmul(turns(&tables)), apart);
        let opposite = RopeTables { sin: tables.back.clone(), back: tables.sin.clone(), ..tables.clone() };
        close("rotation and back", rotate(rotate(x.clone(), &tables), &opposite), x);
    }
}

#[cfg(feature = "dpo")]
#[test]
fn statistics_are_those_of_the_chain() {
    devices()
        .into_iter()
        .for_each(|device| [device.clone(), device.autodiff()].iter().for_each(statistics_of));
}

#[cfg(feature = "dpo")]
fn statistics_of(device: &Device) {
    // more than one part for threads, and remainders of vectors
    for [tokens, vocab] in [[1_usize, 1], [3, 17], [70, 1000], [5, 50_000]] {
        let logits: Tensor<2> = values([tokens, vocab], tokens as u64, device).mul_scalar(2.0);
        // the most likely token in every second row
        let best = logits.clone().argmax(1);
        let odd: Tensor<2, Int> =
            Tensor::arange(0..tokens as i64, device).reshape([tokens, 1]).remainder_scalar(2);
        let targets = (best + odd).remainder_scalar(vocab as i64);
        let logps = log_softmax(logits.clone());
        let expected = TokenStatistics::of_logps(logits.clone(), logps.clone(), targets.clone());
        let found = token_statistics(logits, logps, targets);
        assert!(!found.is_autodiff());
        for at in 0..TokenStatistics::COUNT {
            let of = |x: &Tensor<2>| x.clone().narrow(1, at, 1);
            close(&format!("statistic {at} of {vocab}"), of(&found), of(&expected));
        }
        let hits = found.narrow(1, 3, 1).sum().into_scalar::<f32>();
        assert_eq!(hits as usize, if vocab == 1 { tokens } else { tokens.div_ceil(2) });
    }
}

#[test]
fn a_trained_norm_gets_its_gradient() {
    devices().into_iter().for_each(|device| norms_of(device.autodiff()));
}

fn norms_of(device: Device) {
    let x = random([2, 7, 24], 1, &device);
    let norm = |gamma: Tensor<1>| RmsNorm { gamma: Param::from_tensor(gamma), epsilon: 1e-5 };
    let frozen = norm(random([24], 2, &device).detach());
    check("norm", [x.clone()], |[x]| rms_norm(x, &frozen), |[x]| frozen.forward(x));

    let [fused, chain] = [0, 1].map(|way| {
        let norm = norm(random([24], 2, &device));
        let y = if way == 0 { rms_norm(x.clone(), &norm) } else { norm.forward(x.clone()) };
        let gradients = (y.clone() * y.exp().detach()).sum().backward();
        (norm.gamma.val().grad(&gradients).unwrap(), x.grad(&gradients).unwrap())
    });
    close("gradient of gamma", fused.0, chain.0);
    close("gradient of x", fused.1, chain.1);
}

/// The cube of a large value is infinite.
#[test]
fn gelu_of_large_values() {
    for device in devices() {
        let device = device.autodiff();
        let large = [-f32::MAX, -1e20, -30.0, 30.0, 1e20, f32::MAX];
        let x: Tensor<1> = Tensor::from_data(large, &device).require_grad();
        let y = gelu_tanh(x.clone());
        assert_eq!(y.to_data().try_into_vec::<f32>().unwrap(), large.map(|x| x.max(0.0)));
        let grad = x.grad(&y.sum().backward()).unwrap();
        let expected = large.map(|x| if x > 0.0 { 1.0 } else { 0.0 });
        assert_eq!(grad.into_data().try_into_vec::<f32>().unwrap(), expected);
    }
}

/// An operation does not change a tensor that has another owner.
#[test]
fn inputs_stay_as_they_are() {
    for device in devices() {
        let x = random([2, 3, 4, 6], 1, &device.clone().autodiff()).inner();
        let before = x.to_data();
        for view in
            [x.clone(), x.clone().narrow(0, 1, 1), x.clone().narrow(3, 2, 4), x.clone().swap_dims(2, 3)]
        {
            let [rows, heads, tokens, width] = view.dims();
            let norm = RmsNorm { gamma: Param::from_tensor(Tensor::ones([width], &device)), epsilon: 1e-5 };
            let mask = Tensor::zeros([1, 1, 1, width], &device);
            drop((softmax(view.clone(), mask), swish(view.clone(), 1.0), swiglu(view.clone(), view.clone())));
            drop(gelu_tanh(view.clone()));
            drop((
                rms_norm(view.clone(), &norm),
                log_softmax(view.clone().reshape([rows * heads * tokens, width])),
            ));
            assert_eq!(x.to_data(), before);
        }
    }
}

/// Slices of a larger tensor, with and without another owner.
#[test]
fn views_are_as_good_as_copies() {
    for device in devices() {
        let x = || random([3, 4, 10], 1, &device.clone().autodiff()).inner();
        let views: [fn(Tensor<3>) -> Tensor<3>; 4] =
            [|x| x.narrow(0, 1, 2), |x| x.narrow(2, 3, 6), |x| x.swap_dims(1, 2), |x| x.flip([1])];
        for view in views {
            let copy: Tensor<3> = Tensor::from_data(view(x()).into_data(), &device);
            let [rows, tokens, width] = copy.dims();
            let norm = RmsNorm { gamma: Param::from_tensor(Tensor::ones([width], &device)), epsilon: 1e-5 };
            let w = random([width, 5], 2, &device.clone().autodiff()).inner();
            let saved = x();
            for seen in [view(x()), view(saved.clone())] {
                close("swish", swish(seen.clone(), 1.0), swish(copy.clone(), 1.0));
                close("gelu", gelu_tanh(seen.clone()), gelu_tanh(copy.clone()));
                close("swiglu", swiglu(seen.clone(), seen.clone()), swiglu(copy.clone(), copy.clone()));
                close("norm", rms_norm(seen.clone(), &norm), rms_norm(copy.clone(), &norm));
                close(
                    "product",
                    product(seen.clone(), w.clone()),
                    copy.clone().matmul(w.clone().unsqueeze()),
                );
                let flat = |x: Tensor<3>| x.reshape([rows * tokens, width]);
                close("log-softmax", log_softmax(flat(seen.clone())), log_softmax(flat(copy.clone())));
                // the last owner
                close("swish", swish(seen, 1.0), swish(copy.clone(), 1.0));
            }
        }
    }
}

/// Two operations get the same gradient; neither may change it for the other.
#[test]
fn gradients_may_have_two_owners() {
    for device in devices().into_iter().map(|device| device.autodiff()) {
        let inputs = || [random([6, 8], 1, &device), random([6, 8], 2, &device)];
        check(
            "two of a sum",
            inputs(),
            |[a, b]| swish(a, 1.0) + swish(b, 1.7),
            |[a, b]| plain::swish(a, 1.0) + plain::swish(b, 1.7),
        );
        let norm = RmsNorm { gamma: Param::from_tensor(frozen([8], 3, &device)), epsilon: 1e-5 };
        check(
            "two of a sum",
            inputs(),
            |[a, b]| rms_norm(a, &norm) + log_softmax(b),
            |[a, b]| norm.forward(a) + plain::log_softmax(b),
        );
        check(
            "two of a sum",
            inputs(),
            |[a, b]| swiglu(a.clone(), b.clone()) + swiglu(b, a),
            |[a, b]| plain::swiglu(a.clone(), b.clone()) + plain::swiglu(b, a),
        );
    }
}

#[test]
fn attention_is_its_chain() {
    devices().into_iter().for_each(|device| attention_of(device.autodiff()));
}

/// Several tiles, shared keys, a single token with one or many heads, keys before the tokens, rows
/// of padding, and other masks.
fn attention_of(device: Device) {
    for ([rows, heads, kv_heads, tokens, past, width], masked) in [
        ([2, 6, 2, 5, 3, 8], true),
        ([1, 4, 4, 150, 0, 16], true),
        ([2, 3, 1, 70, 40, 64], true),
        ([3, 6, 3, 1, 33, 8], true),
        // the keys of a single head are contiguous
        ([2, 6, 1, 1, 33, 7], true),
        ([2, 21, 1, 1, 20, 40], true),
        ([2, 1, 1, 1, 9, 64], true),
        ([2, 4, 4, 130, 0, 7], false),
    ] {
        let keys = past + tokens;
        // views of rows of tokens
        let split = |x: Tensor<3>, heads: usize| {
            let tokens = x.dims()[1];
            x.reshape([rows, tokens, heads, width]).swap_dims(1, 2)
        };
        let kv = kv_heads * width;
        let sizes = [[rows, tokens, heads * width], [rows, keys, kv], [rows, keys, kv]];
        let inputs = [0, 1, 2]
            .map(|i| random(sizes[i], i as u64 + 1, &device).mul_scalar(0.5).detach().require_grad());
        // the first row has two keys fewer
        let lens: Vec<_> =
            (0..rows).map(|row| if row == 0 { past.saturating_sub(2) } else { past }).collect();
        let mask = masked.then(|| crate::decoder::causal_mask(&lens, [past, 0, tokens], None, &[], &device));
        let scale = (width as f64).powf(-0.5);
        let fused = |[q, k, v]: [Tensor<3>; 3]| {
            attention(split(q, heads), split(k, kv_heads), split(v, kv_heads), mask.as_ref(), scale)
        };
        let chain = |[q, k, v]: [Tensor<3>; 3]| {
            let mask = mask.clone().unwrap_or_else(|| unmasked(keys, &device));
            let of_scores = |scores| plain::softmax(scores, mask);
            plain::attention(split(q, heads), split(k, kv_heads), split(v, kv_heads), scale, of_scores)
        };
        check("attention", inputs, fused, chain);
    }
}

#[test]
fn shared_attention_is_its_chain() {
    devices().into_iter().for_each(|device| shared_attention_of(device.autodiff()));
}

/// Prefixes with one row, several rows and none, in any order; queries of all tokens, and of rows
/// only.
fn shared_attention_of(device: Device) {
    for ([heads, kv_heads, before, tokens, width], prefix_of_row) in [
        ([4, 2, 5, 3, 8], &[0, 0, 1][..]),
        ([2, 2, 70, 40, 16], &[2, 0, 2, 0]),
        ([6, 2, 9, 1, 7], &[1, 0]),
        ([4, 4, 33, 12, 8], &[0, 0]),
        ([2, 2, 6, 3, 8], &[0, 1, 2]),
        ([4, 2, 6, 3, 8], &[0, 0, 1, 1, 2, 2]),
    ] {
        let (prefixes, rows) = (3, prefix_of_row.len());
        let scale = (width as f64).powf(-0.5);
        let full = prefix_of_row.iter().all(|prefix| *prefix == 0);
        let each = rows / prefixes;
        let even = prefix_of_row.iter().enumerate().all(|(row, prefix)| each > 0 && *prefix == row / each);
        let each = (even && each * prefixes == rows).then_some(each);
        let layout = PrefixLayout { prefixes, before, rows, tokens, full, causal: true, each, scale };
        let lens: Vec<_> = prefix_of_row.iter().map(|prefix| before - prefix).collect();
        let prefix_mask = crate::decoder::causal_mask(&[0], [0, 0, before], None, &[], &device);
        let row_mask = crate::decoder::causal_mask(&lens, [before, 0, tokens], None, &[], &device);
        let index: Vec<_> = prefix_of_row.iter().map(|prefix| *prefix as i64).collect();
        let index = Tensor::<1, Int>::from_ints(index.as_slice(), &device);
        let all = prefixes * before + rows * tokens;
        for queries in [all, rows * tokens] {
            let sizes = [[queries, heads, width], [all, kv_heads, width], [all, kv_heads, width]];
            let inputs = [0, 1, 2]
                .map(|i| random(sizes[i], i as u64 + 1, &device).mul_scalar(0.5).detach().require_grad());
            let masks = [&prefix_mask, &row_mask];
            let chain = |qkv| {
                plain::shared_attention(qkv, index.clone(), layout, |q, k, v, of_rows| {
                    let mask = masks[usize::from(of_rows)].clone();
                    plain::attention(q, k, v, scale, |scores| plain::softmax(scores, mask))
                })
            };
            check("shared attention", inputs, |qkv| shared_attention(qkv, masks, &index, layout), chain);
        }
    }
}

#[test]
fn adapted_products_are_their_chains() {
    for device in devices().into_iter().map(|device| device.autodiff()) {
        for [rows, d_in, d_out, rank] in [[3, 20, 12, 4], [200, 130, 70, 32]] {
            // transposed weights, as a checkpoint stores them
            let w = frozen([d_out, d_in], 4, &device).transpose();
            let inputs = [
                random([rows, d_in], 1, &device),
                random([d_in, rank], 2, &device),
                random([rank, d_out], 3, &device),
            ];
            check(
                "adapted product",
                inputs,
                |[x, a, b]| adapted(x, w.clone(), a, b, 0.7),
                |[x, a, b]| plain::adapted(x, w.clone(), a, b, 0.7),
            );
        }
        // without autodiff: few rows, and large weights on all cores
        for [d_in, d_out] in [[45, 29], [64, 97], [600, 200], [600, 2000]] {
            let w = frozen([d_out, d_in], 4, &device).inner().transpose();
            for rows in [1, 2, 3, 4, 7, 8, 13, 16, 17] {
                let x = frozen([rows, 1, d_in], 1, &device).inner();
                close("few rows", product(x.clone(), w.clone()), x.matmul(w.clone().unsqueeze()));
            }
        }
        // few rows, and many rows
        for rows in [1, 3, 4, 7, 8, 16, 17] {
            let w = frozen([29, 45], 4, &device).transpose();
            check(
                "product",
                [random([rows, 1, 45], 1, &device)],
                |[x]| product(x, w.clone()),
                |[x]| x.matmul(w.clone().unsqueeze()),
            );
        }
    }
}
