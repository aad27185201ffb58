// Keeps a page as it is now; without it the page is as it was when it was loaded.
(function () {
  "use strict";
  var live = document.querySelector("[data-live]");
  function clocks() {
    var now = Date.now() / 1000;
    document.querySelectorAll("[data-ends]").forEach(function (one) {
      var left = Math.max(0, Math.round(Number(one.dataset.ends) - now));
      var h = Math.floor(left / 3600), m = Math.floor((left % 3600) / 60), s = left % 60;
      one.textContent = (h ? h + " h " : "") + (h || m ? m + " min " : "") + (h ? "" : s + " s") + " left";
    });
  }
  setInterval(clocks, 1000);
  clocks();
  if (!live || !window.EventSource) return;
  var state = document.getElementById("connection");
  var source = new EventSource(live.dataset.live);
  source.addEventListener("page", function (event) {
    var held = document.activeElement && live.contains(document.activeElement) ? document.activeElement.id : "";
    live.innerHTML = JSON.parse(event.data);
    if (held && document.getElementById(held)) document.getElementById(held).focus();
    clocks();
  });
  source.addEventListener("open", function () { if (state) state.textContent = "live"; });
  source.addEventListener("end", function () { source.close(); location.reload(); });
  source.addEventListener("error", function () {
    if (state) state.textContent = "the control plane does not answer; users are served as before";
  });
})();
