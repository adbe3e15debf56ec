const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const text = () => getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
for (const [id, figure] of Object.entries(figures)) {
  const place = document.getElementById(id);
  place.replaceChildren();
  figure.layout.font = {color: text(), family: getComputedStyle(document.body).fontFamily, size: 13};
  Plotly.newPlot(place, figure.data, figure.layout, {displaylogo: false, displayModeBar: false});
  dark.addEventListener("change", () => Plotly.relayout(place, {"font.color": text()}));
  new ResizeObserver(() => Plotly.Plots.resize(place)).observe(place);
}
