"""Work and rates for simulations: a small model's real proportions, and random ones."""

from __future__ import annotations

from hypothesis import strategies as st

from planner.speed import Rates, Work

EIGHT_B = Work(
    layers=32.0, dense_bytes=15e9, expert_bytes=0.0, expert_share=1.0, flops_per_token=15e9,
    expert_flops=0.0, attention_flops=524288.0,
    cache_bytes_per_token=131072.0, cache_bytes_fixed=0.0, exchange_bytes_per_token=0.0, exchanges=0.0, pipeline=1.0,
)  # fmt: skip
A100 = Rates(
    bandwidth=2e12, matrix_peak=312e12, attention_peak=312e12, scalar_peak=19.5e12, link_bandwidth=300e9, chunk=8192.0,
    weight_efficiency=0.85, cache_efficiency=0.8, matrix_efficiency=0.5, attention_efficiency=0.5, link_efficiency=0.3,
    step_s=1e-3, layer_s=2e-5, sequence_s=1e-5, exchange_s=7e-6, expert_cost=1.5, routing_spread=0.4,
    tile_rows=0.0, unpack_flops=0.0,
)  # fmt: skip

share = st.floats(0.05, 0.98)
works = st.builds(
    Work,
    layers=st.floats(1, 120), dense_bytes=st.floats(1e8, 1e11), expert_bytes=st.just(0.0) | st.floats(0, 1e11),
    expert_share=st.floats(0.01, 1), flops_per_token=st.floats(1e8, 1e12),
    expert_flops=st.floats(0, 1e8), attention_flops=st.floats(1e3, 1e7),
    cache_bytes_per_token=st.floats(1e3, 1e6), cache_bytes_fixed=st.floats(0, 1e8),
    exchange_bytes_per_token=st.floats(0, 1e7), exchanges=st.floats(0, 500), pipeline=st.sampled_from([1.0, 2.0, 4.0]),
)  # fmt: skip
rates = st.builds(
    Rates,
    bandwidth=st.floats(5e10, 1e13), matrix_peak=st.floats(1e12, 1e16), attention_peak=st.floats(1e12, 5e15),
    scalar_peak=st.floats(1e11, 1e14), link_bandwidth=st.floats(1e9, 1e12),
    chunk=st.sampled_from([512.0, 2048.0, 8192.0]),
    weight_efficiency=share, cache_efficiency=share, matrix_efficiency=share, attention_efficiency=share,
    link_efficiency=share, step_s=st.floats(0, 1e-2), layer_s=st.floats(0, 1e-3), sequence_s=st.floats(0, 1e-4),
    exchange_s=st.floats(0, 1e-4), expert_cost=st.floats(1, 8), routing_spread=share,
    tile_rows=st.floats(0, 128), unpack_flops=st.floats(0, 20),
)  # fmt: skip
