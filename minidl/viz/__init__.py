"""Pictures. Most functions return a Matplotlib figure, which belongs to no window; `save` writes it."""

from minidl.trials import TrialCurves
from minidl.viz.activation_statistics import activation_statistics
from minidl.viz.animation import race_animation
from minidl.viz.augmentations import augmentation, augmentations
from minidl.viz.counterexample import amsgrad_counterexample
from minidl.viz.curves import LearningCurve, small_multiples
from minidl.viz.dropout_masks import dropout_masks
from minidl.viz.graph import Graph, draw_graph
from minidl.viz.inside import effective_steps, inside_one_step
from minidl.viz.landscape import loss_lines, loss_paths, loss_planes
from minidl.viz.momentum import heavy_ball_rate, momentum_map
from minidl.viz.network import feature_maps, filters, histograms
from minidl.viz.page import race_page, write_race_page
from minidl.viz.parameter_sweep import parameter_sweep
from minidl.viz.racing import Race, race, show_race
from minidl.viz.rate_range import rate_range
from minidl.viz.rates import rates
from minidl.viz.search import search
from minidl.viz.sensitivity import rate_momentum_map, rate_sensitivity
from minidl.viz.sheet import race_sheet
from minidl.viz.sparsity import sparsity
from minidl.viz.stages import sharpening_stages
from minidl.viz.style import ACCENT, FAINT, INK, OTHER, plain, save, titled_figure
from minidl.viz.suspects import suspects
from minidl.viz.trials import learning_curves

__all__ = [
    "ACCENT",
    "FAINT",
    "INK",
    "OTHER",
    "Graph",
    "LearningCurve",
    "Race",
    "TrialCurves",
    "activation_statistics",
    "amsgrad_counterexample",
    "augmentation",
    "augmentations",
    "draw_graph",
    "dropout_masks",
    "effective_steps",
    "feature_maps",
    "filters",
    "heavy_ball_rate",
    "histograms",
    "inside_one_step",
    "learning_curves",
    "loss_lines",
    "loss_paths",
    "loss_planes",
    "momentum_map",
    "parameter_sweep",
    "plain",
    "race",
    "race_animation",
    "race_page",
    "race_sheet",
    "rate_momentum_map",
    "rate_range",
    "rate_sensitivity",
    "rates",
    "save",
    "search",
    "sharpening_stages",
    "show_race",
    "small_multiples",
    "sparsity",
    "suspects",
    "titled_figure",
    "write_race_page",
]
