//! The autodiff operation. Its backward pass runs the part again, on a tape of its own.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use super::Forward;

pub(super) fn on_tape<B, M>(module: &M, x: FloatTensor<Autodiff<B>>, forward: Forward<M>) -> Tensor<2>
where
    B: Backend,
    M: Module + 'static,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    let mut trained = Trained::<B> { nodes: HashMap::new(), first: None, backend: PhantomData };
    module.visit(&mut trained);
    // with a trained parameter as a parent, the operation is on the tape whether or not its input
    // is
    let second = trained.first.unwrap_or_else(|| x.node());
    let (x, of_x) = x.into_parts();
    let module = module.valid();
    let output = forward(&module, Tensor::from_primitive::<B>(x.clone()));
    let output = output.try_into_primitive::<B>().expect("a part stays on its device");
    let part = Part { module, forward, nodes: trained.nodes };
    let output = match Recomputed::<M>(PhantomData)
        .prepare::<NoCheckpointing>([of_x, second])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((x, part), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Autodiff<B>>(output)
}

/// A part that is computed again. The module is on no tape.
#[derive(Clone)]
struct Part<M> {
    module: M,
    forward: Forward<M>,
    /// The nodes that the gradients of trained parameters belong to.
    nodes: HashMap<ParamId, NodeId>,
}

impl<M> fmt::Debug for Part<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// Collects the nodes of trained parameters.
struct Trained<B> {
    nodes: HashMap<ParamId, NodeId>,
    first: Option<NodeGuard>,
    backend: PhantomData<B>,
}

impl<B: Backend> ModuleVisitor for Trained<B>
where
    DispatchTensor: DispatchKindConversion<Autodiff<B>>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        if let Ok(value) = param.base().try_into_primitive::<Autodiff<B>>() {
            self.nodes.insert(param.id, value.id());
            self.first.get_or_insert_with(|| value.node());
        }
    }
}

#[derive(Debug)]
struct Recomputed<M>(PhantomData<M>);

impl<B, M> Backward<B, 2> for Recomputed<M>
where
    B: Backend,
    M: Module + 'static,
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = (FloatTensor<B>, Part<M>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let grad: Tensor<2> = Tensor::from_inner(Tensor::from_primitive::<B>(grad));
        let (x, Part { module, forward, nodes }) = ops.state;
        // new parameters: those of the tape of the forward pass are in use
        let module = module.train();
        let x = Tensor::<2>::from_inner(Tensor::from_primitive::<B>(x)).require_grad();
        let found = (forward(&module, x.clone()) * grad).sum().backward();
        let [of_x, _] = ops.parents;
        if let (Some(parent), Some(gradient)) = (of_x, x.grad(&found)) {
            register::<B, 2>(grads, parent.id, gradient);
        }
        module.visit(&mut Registers::<B> { nodes, found, grads, backend: PhantomData });
    }
}

/// Registers the gradients of parameters.
struct Registers<'a, B> {
    nodes: HashMap<ParamId, NodeId>,
    found: burn::tensor::Gradients,
    grads: &'a mut Gradients,
    backend: PhantomData<B>,
}

impl<B: Backend> ModuleVisitor for Registers<'_, B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(node) = self.nodes.get(&param.id)
            && let Some(gradient) = param.base().grad(&self.found)
        {
            register::<B, D>(self.grads, *node, gradient);
        }
    }
}

fn register<B: Backend, const D: usize>(grads: &mut Gradients, node: NodeId, gradient: Tensor<D>)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let gradient = gradient.try_into_primitive::<B>().expect("a gradient is where its tensor is");
    grads.register::<B>(node, gradient);
}
