// Updates the page from server-sent events; without JavaScript the page stays as it was loaded.
(function () {
  "use strict";
  var live = document.querySelector("[data-live]");
  function countdowns() {
    var now = Date.now() / 1000;
    document.querySelectorAll("[data-ends]").forEach(function (element) {
      var left = Math.max(0, Math.round(Number(element.dataset.ends) - now));
      var h = Math.floor(left / 3600), m = Math.floor((left % 3600) / 60), s = left % 60;
      element.textContent = (h ? h + " h " : "") + (h || m ? m + " min " : "") + (h ? "" : s + " s") + " left";
    });
  }
  setInterval(countdowns, 1000);
  countdowns();
  if (!live || !window.EventSource) return;
  var state = document.getElementById("connection");
  var source = new EventSource(live.dataset.live);
  source.addEventListener("page", function (event) {
    var focused = document.activeElement && live.contains(document.activeElement) ? document.activeElement.id : "";
    live.innerHTML = JSON.parse(event.data);
    if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
    countdowns();
  });
  source.addEventListener("open", function () { if (state) state.textContent = "live"; });
  source.addEventListener("end", function () { source.close(); location.reload(); });
  source.addEventListener("error", function () {
    var closed = source.readyState === EventSource.CLOSED;
    if (state) state.textContent = closed ? "this page is no longer updated; reload it to get the current state"
      : "no connection to the control plane, reconnecting; proxies keep serving users";
  });
})();
