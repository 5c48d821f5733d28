"""FastGen's own code as far as it runs without a GPU.

Its engine needs CUDA: its kernels have no other implementation, and so nothing is computed here. What decides how a
model is stored runs on CPU: the policies, containers, parameters, transforms and cuts, `flatten_inference_model` and
`restore_inference_model`, all as they are installed. Three things stand in for what a GPU would have:

- a module of the model (linear, norm, attention, experts, embedding) is made with its config and without its kernels;
- `allocate_view_on` and `allocate_view_like`, which make a view of the buffer, are written in torch;
- rank and number of ranks are told, and the device is the CPU.
"""

import contextlib
import types
from unittest import mock

import torch
from deepspeed.inference.v2 import engine_factory
from deepspeed.inference.v2.checkpoint import HuggingFaceCheckpointEngine
from deepspeed.inference.v2.config_v2 import RaggedInferenceEngineConfig
from deepspeed.inference.v2.model_implementations import (
    flat_model_helpers,
    inference_model_base,
    inference_policy_base,
    layer_container_base,
)
from deepspeed.inference.v2.modules import heuristics
from deepspeed.inference.v2.modules.implementations.embedding.ragged_embedding import DSRaggedEmbedding
from deepspeed.inference.v2.modules.implementations.linear.blas_fp_linear import BlasFPLinear
from deepspeed.inference.v2.modules.implementations.moe.cutlass_multi_gemm import DSMultiGemmMoE
from deepspeed.inference.v2.modules.implementations.pre_norm.cuda_pre_rms import DSPreRMSCUDAModule

# Where the type of a model is looked up, the factory makes its policy itself: so here.
POLICIES = {
    "llama": "Llama2Policy",
    "mistral": "MistralPolicy",
    "qwen2": "Qwen2Policy",
    "mixtral": "MixtralPolicy",
    "phi3": "Phi3Policy",
    "opt": "OPTPolicy",
    "falcon": "FalconPolicy",
    "phi": "PhiPolicy",
    "qwen2_moe": "Qwen2MoePolicy",
}


def _view(shape, strides, like, buffer, offset):
    """A view of a buffer of bytes, as the operators make it."""
    size = torch.empty((), dtype=like.dtype).element_size()
    elements = 1 + sum((length - 1) * stride for length, stride in zip(shape, strides)) if 0 not in shape else 0
    return buffer[offset : offset + elements * size].view(like.dtype).as_strided(tuple(shape), tuple(strides))


class _Views:
    """In place of the operators of `RaggedUtilsBuilder`."""

    def load(self):
        return self

    @staticmethod
    def allocate_view_on(tensor, buffer, offset):
        return _view(tensor.shape, tensor.stride(), tensor, buffer, offset)

    @staticmethod
    def allocate_view_like(shape, strides, like, buffer, offset):
        return _view(shape, strides, like, buffer, offset)


def _without_kernels(module):
    def made(config, _engine):
        bare = module.__new__(module)
        torch.nn.Module.__init__(bare)
        bare._config = config
        return bare

    return made


@contextlib.contextmanager
def rank_of(rank, ranks):
    """FastGen on the CPU, as this rank."""
    cpu = types.SimpleNamespace(current_device=lambda: "cpu")
    dist = types.SimpleNamespace(get_rank=lambda group: rank, get_world_size=lambda group: ranks)
    loaded = torch.load
    from deepspeed.inference.v2.model_implementations import inference_transformer_base
    from deepspeed.inference.v2.model_implementations.opt import model as opt
    from deepspeed.inference.v2.model_implementations.phi import model as phi

    patches = [
        mock.patch.object(heuristics, "instantiate_linear", _without_kernels(BlasFPLinear)),
        mock.patch.object(heuristics, "instantiate_pre_norm", _without_kernels(DSPreRMSCUDAModule)),
        mock.patch.object(heuristics, "instantiate_moe", _without_kernels(DSMultiGemmMoE)),
        mock.patch.object(heuristics, "instantiate_embed", _without_kernels(DSRaggedEmbedding)),
        mock.patch.object(opt, "instantiate_embed", _without_kernels(DSRaggedEmbedding)),
        # It asks the config for a name that transformers 5 does not have, for its kernels alone.
        mock.patch.object(phi.PhiInferenceModel, "positional_embedding_config", None),
        mock.patch.object(heuristics, "instantiate_attention", lambda config, engine: None),
        mock.patch.object(heuristics, "instantiate_unembed", lambda config, engine: None),
        mock.patch.object(inference_model_base, "dist", dist),
        mock.patch.object(flat_model_helpers, "RaggedUtilsBuilder", _Views),
        # The file says the device that the rank would have.
        mock.patch.object(torch, "load", lambda path, **more: loaded(path, map_location="cpu", **more)),
    ]
    for module in (flat_model_helpers, layer_container_base, inference_transformer_base):
        patches.append(mock.patch.object(module, "get_accelerator", lambda: cpu))
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def from_hugging_face(folder, rank, ranks):
    """A rank's model of a Hugging Face folder, cut and fused by FastGen."""
    source = HuggingFaceCheckpointEngine(str(folder))
    policy = inference_policy_base.POLICIES[POLICIES[source.model_config.model_type]]
    with rank_of(rank, ranks):
        policy = policy(source.model_config, checkpoint_engine=source)
        return policy.build_model(RaggedInferenceEngineConfig(), None)


def from_serialised(folder, rank, ranks):
    """A rank's model of a serialised folder, by the function that reads it."""
    built = []

    def engine(policy, config):
        with rank_of(rank, ranks):
            built.append(policy.build_model(config, None))

    config = RaggedInferenceEngineConfig(tensor_parallel={"tp_size": ranks})
    with mock.patch.object(engine_factory, "InferenceEngineV2", engine):
        # Its presence of `ds_model_config.pkl` is how the engine tells what a folder is.
        engine_factory.build_hf_engine(str(folder), config)
    return built[0]
