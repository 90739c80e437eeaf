(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("network-data").textContent);
  var rule = document.getElementById("network-rule"), moment = document.getElementById("network-moment");
  var said = document.getElementById("network-said"), file = document.getElementById("network-file");
  var figures = document.querySelectorAll("[data-network]");
  var minus = "\u2212", seen = null;

  function colour(value) {
    var share = (value - data.scale[0]) / (data.scale[1] - data.scale[0]);
    return data.ramp[Math.round(Math.min(1, Math.max(0, share)) * (data.ramp.length - 1))];
  }

  function words(value) { return value.toFixed(2).replace("-", minus); }

  function paint(group, value, fixed) {
    var state = fixed ? "construction" : value === null ? "missing" : "value";
    group.setAttribute("data-state", state);
    group.querySelectorAll("[data-of]").forEach(function (path) {
      path.style.display = path.getAttribute("data-of") === state ? "" : "none";
      if (state === "value" && path.getAttribute("data-of") === state) { path.setAttribute("stroke", colour(value)); }
    });
    group.querySelector("text").textContent = fixed ? "\u2261 1" : value === null ? "\u2013" : words(value);
  }

  function draw() {
    var now = data.rules[Number(rule.value)], last = now.observers.length - 1, place = Number(moment.value);
    var when = last < 0 ? "no alignment was recorded" : now.observers[place].toLocaleString("en") + " observers seen";
    var values = last < 0 ? [] : now.values[place], told = [], svg = null;
    figures.forEach(function (figure) {
      figure.hidden = figure.getAttribute("data-network") !== now.network;
      if (!figure.hidden) { svg = figure.querySelector("svg"); }
    });
    svg.querySelectorAll("[data-pathway]").forEach(function (group) {
      var n = now.pathways.indexOf(group.getAttribute("data-pathway")), value = n < 0 || last < 0 ? null : values[n];
      var fixed = now.fixed.indexOf(n) >= 0 && last >= 0;
      paint(group, value === undefined ? null : value, fixed);
      if (fixed) { told.push(now.pathways[n] + " 1 by construction"); }
      else if (value !== null && value !== undefined) { told.push(now.pathways[n] + " " + words(value)); }
    });
    svg.querySelector("title").textContent = now.label + ", " + when + ": " + (told.join(", ") || "nothing recorded");
    moment.setAttribute("aria-valuetext", when);
    said.textContent = when + (last < 0 ? "" : ", mean over " + now.seeds[place] + (now.seeds[place] === 1 ? " seed" : " seeds"));
  }

  function choose() {
    var now = data.rules[Number(rule.value)], last = Math.max(0, now.observers.length - 1), best = last;
    now.observers.forEach(function (n, place) {
      if (seen !== null && Math.abs(n - seen) < Math.abs(now.observers[best] - seen)) { best = place; }
    });
    moment.max = last;
    moment.value = best;
    moment.disabled = last === 0;
    draw();
  }

  moment.addEventListener("input", function () {
    seen = data.rules[Number(rule.value)].observers[Number(moment.value)];
    draw();
  });
  rule.addEventListener("change", choose);
  file.addEventListener("click", function () {
    var svg = document.querySelector("[data-network]:not([hidden]) svg").cloneNode(true);
    var text = new XMLSerializer().serializeToString(svg).replace(/var\(--([a-z]+),[^)]*\)/g, function (all, name) { return data.light[name]; });
    file.href = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  });
  document.querySelector(".controls").hidden = false;
  choose();
}());
