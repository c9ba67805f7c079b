"""The page's style sheet: system fonts, two themes, figures that line up, nothing fetched."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fefefd; --ink: #1c2126; --muted: #656d76; --grid: #e4e6e9;
  --kept: #0072b2; --cut: #b3b9c0; --alert: #d05a00; --wash: #f5f6f7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --muted: #9aa2ab; --grid: #2b3036;
    --kept: #56b4e9; --cut: #59616a; --alert: #f0914a; --wash: #1b1f23;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Inter, Arial, sans-serif;
  -webkit-font-smoothing: antialiased;
}
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 56px; }
.kind { color: var(--muted); font-size: 14px; margin: 0; }
h1 { font-size: 34px; line-height: 1.2; letter-spacing: -0.015em; font-weight: 650; margin: 4px 0 10px; overflow-wrap: anywhere; }
h2 { font-size: 21px; line-height: 1.3; letter-spacing: -0.008em; font-weight: 620; margin: 0 0 4px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; overflow-wrap: anywhere; }
.summary { font-size: 18px; max-width: 46em; margin: 0; }
.lead { color: var(--muted); margin: 0 0 20px; max-width: 46em; }
section { margin-top: 56px; padding-top: 24px; border-top: 1px solid var(--grid); }
.tiles { display: flex; flex-wrap: wrap; gap: 28px 24px; margin-top: 36px; }
.tile { flex: 1 0 auto; max-width: 100%; }
.tile .label { color: var(--muted); font-size: 14px; }
.tile .big {
  font-size: 27px; line-height: 1.3; font-weight: 600; letter-spacing: -0.015em;
  font-variant-numeric: tabular-nums; white-space: nowrap;
}
.tile:first-child .big { color: var(--kept); }
.tile .before { color: var(--muted); font-weight: 400; }
.tile .arrow { color: var(--muted); font-weight: 400; }
.tile .small { color: var(--muted); font-size: 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums lining-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th { color: var(--muted); font-weight: 500; text-align: left; vertical-align: bottom; padding: 6px 0 6px 20px; border-bottom: 1px solid var(--cut); }
td { padding: 7px 0 7px 20px; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
.number { text-align: right; }
tbody tr:last-child td { border-bottom: 0; }
td .bar { width: 100%; min-width: 90px; height: 8px; background: var(--grid); }
td .bar i { display: block; height: 100%; min-width: 1px; background: var(--kept); }
.bytes { display: flex; height: 22px; gap: 2px; }
.bytes i { flex: 1 1 0; min-width: 2px; }
.shade0 { background: var(--kept); } .shade1 { background: var(--alert); } .shade2 { background: var(--ink); }
.shade3 { background: var(--muted); } .shade4 { background: var(--cut); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 32px; margin: 14px 0 0; font-size: 14px; }
.legend div { display: flex; align-items: center; gap: 8px; }
.legend i { width: 12px; height: 12px; }
.legend dd { margin: 0; color: var(--muted); font-variant-numeric: tabular-nums; }
section > .absent { font-size: 13.5px; margin: 12px 0 0; max-width: 50em; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 36px 40px; align-items: start; }
.scroll + .grid { margin-top: 36px; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
figure svg text { font-family: inherit; font-variant-numeric: tabular-nums; }
figure image { image-rendering: pixelated; }
@media (prefers-color-scheme: dark) { figure image { filter: brightness(1.45); } }
figcaption { color: var(--muted); font-size: 13.5px; line-height: 1.45; margin-top: 8px; max-width: 44em; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13px; }
pre { background: var(--wash); padding: 16px 18px; overflow-x: auto; line-height: 1.5; margin: 24px 0 0; }
.versions { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 4px 32px; margin: 0; font-size: 14px; }
.versions div { display: flex; justify-content: space-between; border-bottom: 1px solid var(--grid); padding: 4px 0; }
.versions dt { color: var(--muted); }
.versions dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; text-align: right; }
.absent { color: var(--muted); }
.notes { font-size: 14px; padding-left: 1.2em; }
footer { color: var(--muted); font-size: 13.5px; padding-top: 40px; padding-bottom: 56px; }
@media (max-width: 640px) { main, header, footer { padding-left: 18px; padding-right: 18px; } header { padding-top: 32px; } h1 { font-size: 28px; } }
@media print { body { font-size: 11pt; } section, figure { break-inside: avoid; } }
"""
