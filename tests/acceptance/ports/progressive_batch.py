"""A batch size that doubles during training (Smith et al., arXiv:1711.00489), beside a tuned constant one."""

from hpo import MLP, Configuration, Mnist1d, Stages, Study, choice

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="Constant",
    configurations=(
        Configuration("Constant", "sgd", space={"batch_size": choice(32, 64, 128)}),
        Configuration("Growing", "sgd", space={"batch_size": Stages({0: 32, 10: 64, 20: 128})}),
    ),
)
