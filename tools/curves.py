"""A drawing of curves as SVG: mean lines with the band of their least and largest values."""

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 300, 56, 44, 16, 90
COLORS = ("#3566a8", "#c0562b", "#4d8a3d")


def draw(curves, across, up):
    """curves: {name: [values of a run over x = 1, 2, ...]}; across, up: what the axes say. All runs are equally long."""
    count = len(next(iter(curves.values()))[0])
    top = max(max(run) for runs in curves.values() for run in runs) * 1.05

    def x(i):
        return LEFT + (WIDTH - LEFT - RIGHT) * i / max(count - 1, 1)

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    def points(values, order):
        return " ".join(f"{x(i):.1f},{y(values[i]):.1f}" for i in order)

    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for tick in range(5):
        value = top * tick / 4
        lines.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for i in range(count):
        lines.append(f'<text x="{x(i):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{i + 1}</text>')
    lines.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{across}</text>'
                 f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{up}</text>')
    for k, (name, runs) in enumerate(curves.items()):
        color, epochs = COLORS[k % len(COLORS)], list(zip(*runs))
        low, high, mean = [min(e) for e in epochs], [max(e) for e in epochs], [sum(e) / len(e) for e in epochs]
        lines += [f'<polygon points="{points(high, range(count))} {points(low, range(count - 1, -1, -1))}" fill="{color}" opacity="0.15"/>',
                  f'<polyline points="{points(mean, range(count))}" fill="none" stroke="{color}" stroke-width="2"/>',
                  f'<path d="M{WIDTH - RIGHT + 12} {TOP + 12 + 20 * k}h18" stroke="{color}" stroke-width="2"/>'
                  f'<text x="{WIDTH - RIGHT + 36}" y="{TOP + 16 + 20 * k}">{name}</text>']
    return "\n".join(lines + ["</svg>", ""])
