"""Mistakes in CLAPP++ and its relatives, CLAPP as published, and optimal feedback."""

from mutations.base import ENGINE, OBJECTIVES, TRANSPORTS, mistakes

CONTRASTIVE = (
    mistakes(
        "contrastive",
        OBJECTIVES + "contrastive.py",
        ("comparison.judgement.losses.mean()", "comparison.judgement.losses.sum()", "loss summed over rows"),
        (
            "index_add_(0, step.partner, gamma_fixation[:, None] * predicted)",
            "index_add_(0, step.partner, predicted)",
            "the neuromodulator of fixations left out",
        ),
        (
            "(gamma_saccade[..., None] * predicted).flatten(0, 1))",
            "(-gamma_saccade[..., None] * predicted).flatten(0, 1))",
            "saccades attract",
        ),
        (
            "target, landed = response[step.partner], response[step.negatives]",
            "target, landed = response, response[step.negatives]",
            "the score of the context itself in place of the other view",
        ),
        (
            "gamma_fixation[:, None] * compared.target + (",
            "gamma_fixation[:, None] * compared.response + (",
            "B learns from the response to the first view",
        ),
        (
            "(gamma_saccade[..., None] * compared.landed).sum(0)",
            "(gamma_saccade[..., None] * compared.landed).mean(0)",
            "B learns from the mean over negatives twice",
        ),
        ("share = len(learning) / site.rows", "share = 1.0", "change of B averaged over the rows that learn"),
        (
            '"plastic": self.plastic or population == network.top,',
            '"plastic": self.plastic,',
            "fixed predictions at the top, too",
        ),
        (
            "return Contrastive(self.contrast, context, self.pools, self.lateral_too,",
            "return Contrastive(self.contrast, context, self.pools, False,",
            "one of both scores at the top left out",
        ),
        ("return max(1, size // cells)", "return max(1, -(-size // cells))", "size of cells rounded up"),
        ("cells = 8 if relative >= 0.75 else", "cells = 8 if relative >= 0.5 else", "eight cells for smaller maps"),
        (
            "strength.index_add_(0, step.negatives.flatten(), gamma_saccade.abs().flatten().to(strength))",
            "pass",
            "rows that only saccades reached taken for silent",
        ),
        (
            "total = credit if total is None else total + credit\n            losses[name] = comparison",
            "total = credit\n            losses[name] = comparison",
            "credit of one of both scores lost",
        ),
    )
    + mistakes(
        "contrastive",
        "plasticity/catalogue.py",
        (
            'register("bp-clapp++spatial")(_compose(Backprop, Contrastive, context="lateral", pool="spatial"))',
            'register("bp-clapp++spatial")(_compose(Backprop, Contrastive, context="lateral", pool="global"))',
            "backprop of the global score in place of the spatial one",
        ),
    )
    + mistakes(
        "contrastive",
        OBJECTIVES + "transitions.py",
        (
            "saccade_gain = gain if event is None or event.saccade_gain is None else event.saccade_gain",
            "saccade_gain = gain",
            "gain of saccades left out",
        ),
        (
            "stayed, jumped = (~moved).float(), moved.float()",
            "stayed, jumped = moved.float(), (~moved).float()",
            "fixations and saccades exchanged online",
        ),
        ("present = traced.to(dtype)", "present = torch.ones_like(traced, dtype=dtype)", "rows without a trace learn"),
    )
    + mistakes(
        "contrastive",
        OBJECTIVES + "scores.py",
        ("lambda u: (u < 1).to(u.dtype)", "lambda u: (u < 0).to(u.dtype)", "margin of the hinge left out of the gate"),
        ("lambda u: (1 - u).clamp(min=0)", "lambda u: (-u).clamp(min=0)", "margin of the hinge left out of the loss"),
        ("-f.gamma(-u_saccade) / negatives", "-f.gamma(-u_saccade)", "saccades summed over negatives"),
        ("-f.gamma(-u_saccade) / negatives", "-f.gamma(u_saccade) / negatives", "gate of saccades on the wrong side"),
        ("gamma = steepness * excess.sigmoid()", "gamma = excess.sigmoid()", "steepness of phyll left out of the slope"),
        (
            "excess = steepness * (u_saccade.mean(0) - u_fixation)",
            "excess = steepness * (u_saccade.sum(0) - u_fixation)",
            "phyll sums over negatives",
        ),
        ("lambda u: (1 - u).sigmoid(),", "lambda u: (u - 1).sigmoid(),", "wrong sign in the slope of softplus"),
        ("gamma_fixation * stay", "gamma_fixation", "gain of fixations left out"),
        (
            "return Judgement(losses, gamma, (-gamma / negatives).expand(negatives, -1))",
            "return Judgement(losses, gamma, (-gamma).expand(negatives, -1))",
            "phyll: every saccade counts in full",
        ),
    )
    + mistakes(
        "contrastive",
        "plasticity/site.py",
        (
            "return projection.signal(record.held[source]), None",
            "return projection.signal(record.output[source]), None",
            "contexts not held while predictive coding settles",
        ),
        (
            "return projection.signal(record.context[source]), record.traced",
            "return projection.signal(record.output[source]), record.traced",
            "the present response in place of the trace",
        ),
    )
    + mistakes(
        "contrastive",
        "plasticity/proposal.py",
        (
            "update = update.scaled(len(somatic) / activity.rows)",
            "update = update.scaled(1)",
            "change averaged over the rows that are not silent",
        ),
    )
)

PREDICTIONS = (
    mistakes(
        "predictions",
        ENGINE + "predictions.py",
        (
            "self.factor(apical_credit) @ self.operand)",
            "self.factor(apical_credit) @ self.operand / self.operand.shape[1])",
            "V learns from the mean over interneurons",
        ),
        (
            "self.factor(apical_credit) @ self.operand)",
            "self.factor(apical_credit) @ self.operand.sign())",
            "V learns through the signs of U",
        ),
        (
            "own + self.through.changes(signal, self.factor(apical_credit) @ self.operand)",
            "own",
            "interneurons do not learn",
        ),
        (
            "return super().hebbian(self.through.apical(signal), apical_credit)",
            "return super().hebbian(-self.through.apical(signal), apical_credit)",
            "U unlearns",
        ),
        ("apical_credit / len(signal)).unflatten", "apical_credit).unflatten", "change of a band summed over rows"),
        ("(0, 0, 0, 0, 0, 1)).index_select", "(0, 0, 0, 0, 0, 1), value=1.0).index_select", "cells too far away active"),
        (
            "return weight.permute(0, 2, 3, 1).reshape(-1, cells",
            "return weight.permute(0, 3, 2, 1).reshape(-1, cells",
            "rows and columns of a window exchanged in the prediction",
        ),
        (
            "found.reshape(-1, *window, pre).permute(0, 3, 1, 2)",
            "found.reshape(-1, *window, pre).permute(0, 3, 2, 1)",
            "rows and columns of a window exchanged in the change",
        ),
        (
            "return super().apical(self.through.apical(signal))",
            "return super().apical(self.through.apical(signal).relu())",
            "interneurons rectify",
        ),
    )
    + mistakes(
        "predictions",
        ENGINE + "projections.py",
        (
            "share = self.factor(apical_credit / max(1, len(signal)))",
            "share = self.factor(apical_credit)",
            "change of B summed over rows",
        ),
        (
            "return pooled(activity, self.pathway.target_pool).to(self.weight.dtype)",
            "return pooled(activity, self.pathway.source_pool).to(self.weight.dtype)",
            "responses pooled as the context is",
        ),
    )
    + mistakes(
        "predictions",
        "anatomy/prediction.py",
        (
            "near = np.abs(place[:, None] - other[None]) <= distance",
            "near = np.abs(place[:, None] - other[None]) < distance",
            "neighbours at the distance left out",
        ),
        ("coarse = min(target, source)", "coarse = max(target, source)", "distance in cells of the finer map"),
        (
            "first = np.minimum(near.argmax(1), source - size)",
            "first = np.minimum(near.argmax(1) + 1, source - size)",
            "window begins one cell too late",
        ),
    )
)

CLAPP = mistakes(
    "clapp",
    OBJECTIVES + "clapp.py",
    ("onto_now @ projection.weight", "onto_now @ projection.weight.T", "B in place of B^T in transposed retrodiction"),
    ("dendrite = dendrite + onto_now @", "dendrite = dendrite - onto_now @", "wrong sign of transposed retrodiction"),
    ("jump * f.loss(-away).mean(0)).mean()", "jump * f.loss(-away).sum(0)).mean()", "loss summed over saccades"),
    ("-jump * f.gamma(-away) / len(away)", "-jump * f.gamma(-away)", "credit summed over saccades"),
    ("-jump * f.gamma(-away)", "-jump * f.gamma(away)", "gate of saccades on the wrong side"),
    ("-jump * f.gamma(-away)", "jump * f.gamma(-away)", "saccades attract"),
    (
        "((e != 0).sum().clamp(min=1) * steps)",
        "(rows * steps)",
        "mean over all rows in place of those with an event of the kind",
    ),
    ("((e != 0).sum()", "(e.sum()", "mean weighted with gains"),
    (".clamp(min=1) * steps) for e", ".clamp(min=1)) for e", "sum over steps in place of the mean"),
    ("happens[1] * ~stays[direction]", "happens[1] * stays[direction]", "saccades where the observer stays"),
    ("[happens[0] * stays[direction],", "[happens[0] * stays[0],", "fixations of the prediction taken for retrodiction"),
    ("elsewhere[direction, k].clamp", "elsewhere[0, k].clamp", "saccades of the prediction taken for retrodiction"),
    ("there = later[k] >= 0", "there = later[k] > 0", "row 0 taken for none"),
    (
        "_Step(later[k].clamp(min=0)",
        "_Step(later[0].clamp(min=0)",
        "one fixation later whatever the number of steps",
    ),
    (
        "feedback += projection.changes(held, onto_later)",
        "feedback += projection.changes(held, onto_now)",
        "R learns the context's side",
    ),
    (
        "gains.saccade_gain is None else gains.saccade_gain.to(one)",
        "gains.saccade_gain is None else stay",
        "gain of saccades left out",
    ),
    ("onto_now = gamma[:, None] * then +", "onto_now = then +", "the neuromodulator of fixations left out"),
    ("total = credit if total is None else total + credit", "total = credit", "credit of the last pathway alone"),
)

OPTIMAL = mistakes(
    "optimal",
    TRANSPORTS + "optimal_feedback.py",
    (
        "error = credit.activity - wanted.activity",
        "error = wanted.activity - credit.activity",
        "wrong sign of the difference from backprop",
    ),
    ("(-2 / site.rows) * slope", "(-1 / site.rows) * slope", "factor 2 of the square left out"),
    ("(-2 / site.rows) * slope", "-2.0 * slope", "1 / rows left out"),
    (
        "return slope + bend_fixation[:, None] * compared.target + (bend_saccade[..., None] * compared.landed).sum(0)",
        "return slope",
        "slope of the neuromodulator left out",
    ),
    ("return slope + bend_fixation[:, None]", "return slope - bend_fixation[:, None]", "wrong sign of that slope"),
    (
        "missed, missed_landed = error[step.partner], error[step.negatives]",
        "missed, missed_landed = error, error[step.negatives]",
        "the error of the context's row in place of the target's",
    ),
    ("curve(-u_saccade) * to_saccade", "curve(u_saccade) * to_saccade", "bend of saccades on the wrong side"),
    ("* to_saccade / negatives\n", "* to_saccade\n", "bend summed over negatives"),
    (
        "saccade if jump is None else saccade * jump",
        "saccade if stay is None else saccade * stay",
        "gain of fixations at saccades",
    ),
    ("if population != scope.top:", "if population:", "the top taught by itself"),
    (
        "credit.feedback = self.lessons(",
        "credit.feedback += self.lessons(",
        "predictions learn from their own loss, too",
    ),
    ("slope = steepness**2 * excess", "slope = steepness * excess", "steepness of phyll counted once"),
    (
        "return -slope, (slope / negatives).expand",
        "return slope, (slope / negatives).expand",
        "wrong sign in phyll",
    ),
    (
        "score(missed, compared.predicted), score(missed_landed, compared.predicted)",
        "score(missed, compared.target), score(missed_landed, compared.landed)",
        "responses in place of predictions in the bend",
    ),
) + mistakes(
    "optimal",
    OBJECTIVES + "scores.py",
    (
        "lambda u: -(1 - u).sigmoid() * (u - 1).sigmoid()",
        "lambda u: (1 - u).sigmoid() * (u - 1).sigmoid()",
        "wrong sign of the bend",
    ),
)
