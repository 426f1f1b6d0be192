"use strict";
// Makes the search work where pages are files of a folder: there a browser starts no worker, so the
// script of the worker runs in a hidden frame that is given the worker's way to send and receive.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      this.ready = new Promise((resolve) => script.addEventListener("load", resolve));
      this.receive = (data) => inside.dispatchEvent(new MessageEvent("message", { data }));
      script.src = new URL(url, location.href).href;
      frame.contentDocument.body.append(script);
    }

    postMessage(data) {
      this.ready.then(() => this.receive(data));
    }

    terminate() {}
  };
}
