"""ROGC against AdamW with fixed clipping and without, on MNIST-1D; variants clean and noisy."""

from hpo import MLP, Configuration, Mnist1d, Study, linear_range, log_range

ADAMW = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-4, 10)}
CLIP = {"clip": log_range(0.1, 10)}
K = {"k": linear_range(0, 5)}
FIXED = {"Sample clipping": "equivalent"}  # the fence takes the place of a tuned threshold

STUDIES = {
    name: Study(
        title=f"Robust outlier-based gradient clipping (ROGC), {title}",
        hypothesis=(
            "Clipping every sample's gradient at Tukey's fence of the minibatch's gradient norms takes the weight from "
            "outliers, mislabelled samples above all, without a threshold that must be known beforehand: better than "
            "no clipping under label noise, and no worse without."
        ),
        data=Mnist1d(samples=4000, label_noise=noise),
        model=MLP((40, 256, 256, 10)),
        batch_size=64,
        epochs=30,
        trials=40,
        seeds=40,
        tuning_runs=10,
        margin=0.01,
        baseline="AdamW",
        configurations=(
            Configuration("AdamW", space=ADAMW),
            Configuration("Global clipping", regularizer="clip_global", space=ADAMW | CLIP, prediction="equivalent"),
            Configuration("Sample clipping", regularizer="clip_sample", space=ADAMW | CLIP, prediction=prediction),
            Configuration("ROGC", regularizer="rogc", space=ADAMW | K, prediction=prediction, against=FIXED),
        ),
    )
    for name, title, noise, prediction in (
        ("clean", "clean labels", 0.0, "equivalent"),
        ("noisy", "20% label noise", 0.2, "better"),
    )
}
