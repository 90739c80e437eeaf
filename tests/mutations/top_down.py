"""Mistakes in transports from the top: backprop, feedback alignment, direct feedback, blocks, dual propagation."""

from mutations.base import ENGINE, OBJECTIVES, TRANSPORTS, mistakes

SUPERVISED = (
    mistakes(
        "supervised and bp",
        OBJECTIVES + "supervised.py",
        ("return target - log_probability.exp(),", "return log_probability.exp() - target,", "ascends the loss"),
        ("output.log_softmax(1)", "output.log_softmax(0)", "softmax over rows"),
        ("-(log_probability * target).sum(1)", "-(log_probability * target).mean(1)", "loss averaged over classes"),
        ("residual.square().sum(1) / 2", "residual.square().sum(1)", "1 / 2 of the squared error left out"),
        ("return residual,", "return 2 * residual,", "factor 2 of the square"),
        ("residual.square().sum(1) / 2", "residual.square().mean(1) / 2", "squared error averaged over units"),
        ("scaled = error if gain is None else error * per_row(gain, error)", "scaled = error", "gain left out"),
    )
    + mistakes(
        "supervised and bp",
        OBJECTIVES + "base.py",
        ("(losses * gain).mean()", "(losses * gain).sum() / gain.sum()", "loss weighted with gains"),
    )
    + mistakes(
        "supervised and bp",
        TRANSPORTS + "backprop.py",
        (
            "arrived[pathway.pre] = arrived[pathway.pre] + carried if pathway.pre in arrived else carried",
            "arrived[pathway.pre] = carried",
            "credit past a population lost",
        ),
        (
            "somatic = at_soma(site, credit)",
            "somatic = at_soma(site, credit) if credit.activity is None else site.at_neurons(credit.activity)",
            "gate left out",
        ),
    )
    + mistakes(
        "supervised and bp",
        ENGINE + "responses.py",
        (
            "transfer.lateral(transfer.gated(spread, response.neurons))",
            "transfer.lateral(spread)",
            "gate left out at averages",
        ),
        ("somatic = transfer.gated(credit, response.activity)", "somatic = credit", "gate left out elsewhere"),
        ("*geometry, False, True, None)", "*geometry, False, True, 1)", "credit of an average not divided over its cell"),
    )
    + mistakes(
        "supervised and bp",
        ENGINE + "kernels.py",
        ("flat = somatic.flatten(1) / max(1, len(somatic))", "flat = somatic.flatten(1)", "change summed over rows"),
        ("summed.weight.div_(rows),", "summed.weight,", "change of kernels summed over rows"),
        (
            "change.permute(0, 3, 1, 2), flat.sum(0)",
            "change.permute(0, 3, 2, 1), flat.sum(0)",
            "rows and columns of kernels exchanged",
        ),
        ("None if summed.bias is None else summed.bias.div_(rows)", "summed.bias", "change of biases summed over rows"),
    )
    + mistakes(
        "supervised and bp",
        "anatomy/transfer.py",
        ("torch.ops.aten.tanh_backward(credit, activity)", "credit * (1 - activity)", "slope of tanh without the square"),
        ("credit * (-activity).expm1_().neg_()", "credit * activity.sigmoid()", "slope of softplus from the activity"),
    )
)

FA = (
    mistakes(
        "fa",
        ENGINE + "projections.py",
        ("weight.abs() * forward.operand.sign()", "forward.operand", "W^T in place of its signs"),
        ("weight.abs() * forward.operand.sign()", "weight * forward.operand.sign()", "signs of B not taken off"),
        ("weight.abs() * forward.operand.sign()", "forward.operand.abs() * weight.sign()", "roles of B and W exchanged"),
        ("weight.abs() * forward.operand.sign()", "forward.operand.sign()", "size of B left out"),
        ("Update(update.weight.transpose(0, 1).contiguous())", "Update(-update.weight.transpose(0, 1))", "B unlearns"),
        (
            "Update(update.weight.transpose(0, 1).contiguous())",
            "Update(update.weight.transpose(0, 1) / 2)",
            "B learns half as much",
        ),
        (
            "update = self._forward.hebbian(presynaptic, somatic_credit)",
            "update = self._forward.hebbian(presynaptic, somatic_credit).scaled(len(presynaptic))",
            "change of B summed over rows",
        ),
        (
            "weight = self.operand.transpose(0, 1).contiguous()",
            "weight = forward.operand.contiguous()",
            "backprop in place of B",
        ),
        (
            "update = self._forward.hebbian(presynaptic, somatic_credit)",
            "update = self._forward.hebbian(presynaptic.relu(), somatic_credit)",
            "B sees rectified activity",
        ),
        (
            "update = self._forward.hebbian(presynaptic, somatic_credit)",
            "update = self._forward.hebbian(presynaptic, somatic_credit.sign())",
            "B learns from signs",
        ),
        (
            "somatic = self.factor(somatic_credit)\n        credit = kernels.transpose(forward",
            "somatic = self.factor(somatic_credit) / len(somatic_credit)\n        credit = kernels.transpose(forward",
            "1 / rows at every mirror",
        ),
    )
    + mistakes(
        "fa",
        TRANSPORTS + "feedback_alignment.py",
        ('plastic=self.feedback == "learned", init', "plastic=False, init", "learned feedback does not learn"),
        ('True, self.feedback == "sign")', "True, False)", "sign-symmetric with random signs"),
    )
    + mistakes(
        "fa",
        TRANSPORTS + "backprop.py",
        (
            "carried = scope.transport(pathway, somatic, mirrored, signed)",
            "sent = site.at_neurons(credit.activity) if mirrored and credit.activity is not None else somatic\n"
            "                carried = scope.transport(pathway, sent, mirrored, signed)",
            "credit not gated before the mirror",
        ),
    )
)

DFA = (
    mistakes(
        "dfa",
        ENGINE + "projections.py",
        (
            'area = credit.shape[2] * credit.shape[3] if pool == "global" else int(pool) ** 2',
            'area = credit.shape[2] if pool == "global" else int(pool) ** 2',
            "pooled error summed over one side of the map, default pool",
        ),
        ('if pool == "global" else int(pool) ** 2', 'if pool == "global" else int(pool)', "the same in cells"),
        ("return mean * area", "return mean", "pooled error averaged"),
        (
            "onto_places = self.weight.view(channels, height * width, -1).permute(1, 2, 0)",
            "onto_places = self.weight.view(height * width, channels, -1).transpose(1, 2)",
            "channels and places of B exchanged",
        ),
        (
            "return credit.permute(1, 2, 0).reshape(-1, *shape)",
            "return credit.permute(1, 2, 0).reshape(-1, channels, width, height).transpose(2, 3)",
            "rows and columns exchanged",
        ),
        (
            "return credit.permute(1, 2, 0).reshape(-1, *shape)",
            "return credit.permute(1, 2, 0).reshape(-1, *shape) / (height * width)",
            "credit divided over places that each have their own",
        ),
    )
    + mistakes(
        "dfa",
        ENGINE + "pooling.py",
        ("cells = credit / (kernel_y * kernel_x)", "cells = credit / kernel_y", "credit of a cell divided by one side"),
        ("cells = credit / (kernel_y * kernel_x)", "cells = credit", "credit of a cell not divided"),
        (
            "cells.view(rows, channels, high, wide).permute(0, 2, 3, 1)",
            "cells.view(rows, high, wide, channels)",
            "values taken for channels last",
        ),
        (
            "(0, width - spread.shape[3], 0, height - spread.shape[2])",
            "(width - spread.shape[3], 0, height - spread.shape[2], 0)",
            "the remainder on the wrong side",
        ),
        ("return activity.mean((2, 3))", "return activity.sum((2, 3))", "responses summed over the map"),
        (
            "cells.view(rows, channels, high, wide)",
            "cells.view(rows, channels, wide, high).transpose(2, 3)",
            "rows and columns of cells exchanged",
        ),
    )
    + mistakes(
        "dfa",
        TRANSPORTS + "feedback_alignment.py",
        (
            "yield site.population, Credit(arrived, signals",
            "yield site.population, Credit(somatic=site.at_neurons(arrived), signals",
            "gate left out",
        ),
        ("error = top.activity\n", "error = top.activity.sign()\n", "signs of the error"),
        ("error = top.activity\n", "error = -top.activity\n", "wrong sign below the top"),
        ("error = top.activity\n", "error = top.activity - top.activity.mean(0)\n", "error without its mean over rows"),
    )
)

BLOCKS = mistakes(
    "blocks",
    TRANSPORTS + "blocks.py",
    (
        "ends = range(len(populations), 0, -self.size)",
        "ends = sorted({min(e, len(populations)) for e in range(self.size, len(populations) + self.size, self.size)})[::-1]",
        "counted from below",
    ),
    (
        "populations[max(0, end - self.size) : end]",
        "populations[max(0, end - self.size) : end - 1] or populations[:1]",
        "blocks without their top",
    ),
    (
        "self._said(scope, block[-1], moment), mirrored",
        "self._said(scope, block[0], moment), mirrored",
        "the objective at the bottom of the block",
    ),
    (
        "for block in self.blocks(scope.populations):\n            yield from",
        "for block in self.blocks(scope.populations)[:1]:\n            yield from",
        "the uppermost block alone learns",
    ),
    (
        "for block in self.blocks(scope.populations)}",
        "for block in self.blocks(scope.populations)[:1]}",
        "loss of the uppermost block alone",
    ),
    (
        "yield from descend(scope, self._said(scope, block[-1], moment), mirrored=False, block=block)",
        "for name, credit in descend(scope, self._said(scope, block[-1], moment), mirrored=False, block=block):\n"
        "                yield name, credit.gained(scope.site(name).activity.new_full((1,), 1 / len(block)))",
        "credit divided by the size of the block",
    ),
    (
        "ends = range(len(populations), 0, -self.size)",
        "ends = range(len(populations), 0, -1)",
        "a block begins at every population",
    ),
    (
        "ends = range(len(populations), 0, -self.size)",
        "ends = range(len(populations), self.size - 1, -self.size)",
        "the rest at the bottom does not learn",
    ),
    (
        "if self.size == 1:\n            for site in scope.sites():",
        "if self.size:\n            for site in scope.sites():",
        "every population its own block",
    ),
    (
        "for block in self.blocks(scope.populations):\n            yield from descend(scope, "
        "self._said(scope, block[-1], moment), mirrored=False, block=block)",
        "whole = scope.populations\n        yield from descend(scope, self._said(scope, whole[-1], moment), mirrored=False)",
        "backprop through all blocks",
    ),
) + mistakes(
    "blocks",
    TRANSPORTS + "backprop.py",
    (
        "if population == block[-1]:\n            credit = top",
        "if population == scope.top:\n            credit = top",
        "credit of lower blocks lost",
    ),
    ("for population in reversed(block):", "for population in block:", "from the bottom upwards"),
    ("if pathway.pre in block:", "if pathway.pre in block[1:]:", "the lowest population of a block receives nothing"),
)

DUAL_PROPAGATION = mistakes(
    "dual-prop",
    TRANSPORTS + "dual_propagation.py",
    ("* (self.beta / 2)", "* self.beta", "the activities twice as far apart"),
    ("site.neurons_at(drive - nudge)) / self.beta", "site.neurons_at(drive - nudge))", "not divided by beta"),
    (
        "site.neurons_at(drive - nudge)) / self.beta",
        "site.neurons_at(drive - nudge)) / (self.beta / 2)",
        "divided by beta / 2",
    ),
    (
        "site.neurons_at(drive - nudge)) / self.beta",
        "site.neurons_at(drive)) / (self.beta / 2)",
        "difference from the free activity",
    ),
    (
        "(site.neurons_at(drive + nudge) - site.neurons_at(drive - nudge))",
        "(site.neurons_at(drive - nudge) - site.neurons_at(drive + nudge))",
        "activities exchanged",
    ),
    (
        "return (site.neurons_at(drive + nudge) - site.neurons_at(drive - nudge)) / self.beta",
        "return site.somatic(credit.activity)",
        "the slope at the free activity: backprop",
    ),
    (
        "exact(site.at_neurons(credit.activity)) * (self",
        "exact(site.somatic(credit.activity)) * (self",
        "gated before it is added",
    ),
    ("replace(credit, activity=None)", "replace(credit, somatic=None)", "learns from credit times slope"),
    ("* (self.beta / 2)", "* (self.beta / 2) / site.rows", "nudge divided by the rows"),
    ("* (self.beta / 2)", "* (self.beta**2 / 2)", "beta twice"),
    (
        "(site.neurons_at(drive + nudge) - site.neurons_at(drive - nudge)) / self.beta",
        "(site.neurons_at(nudge) - site.neurons_at(-nudge)) / self.beta",
        "drive left out",
    ),
) + mistakes(
    "dual-prop",
    TRANSPORTS + "backprop.py",
    (
        "arrived[pathway.pre] = arrived[pathway.pre] + carried if pathway.pre in arrived else carried",
        "arrived[pathway.pre] = carried",
        "credit past a population lost",
    ),
    (
        "scope.transport(pathway, somatic, mirrored, signed)",
        "scope.transport(pathway, site.at_neurons(credit.activity), mirrored, signed)",
        "credit sent on in place of the difference",
    ),
)
