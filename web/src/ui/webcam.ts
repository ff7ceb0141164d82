/** A camera of this computer: its picture in a dialog, from which a photo is taken. */

import { byId } from "./dom";

const FAILURES: Record<string, string> = {
  NotAllowedError: "The camera was not allowed. Allow it beside the address, then try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};
const SHARPEST = { width: { ideal: 1920 }, height: { ideal: 1080 } };
const QUALITY = 0.95; // of the photo as JPEG

export class Webcam {
  private readonly dialog = byId<HTMLDialogElement>("webcam");
  private readonly video = byId<HTMLVideoElement>("webcam-picture");

  constructor(
    private readonly taken: (photo: File) => void,
    private readonly failed: (message: string) => void,
  ) {
    if (!navigator.mediaDevices?.getUserMedia) return; // such as on an address without TLS
    document.documentElement.dataset.webcam = "";
    for (const button of document.querySelectorAll("[data-webcam-open]")) {
      button.addEventListener("click", () => void this.open());
    }
    byId("webcam-take").addEventListener("click", () => void this.take());
    this.dialog.addEventListener("close", () => this.stop());
  }

  private async open(): Promise<void> {
    try {
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video: SHARPEST });
    } catch (error) {
      const name = error instanceof DOMException ? error.name : "";
      this.failed(FAILURES[name] ?? "The camera cannot be used here.");
      return;
    }
    this.dialog.showModal();
  }

  private async take(): Promise<void> {
    const { videoWidth, videoHeight } = this.video;
    if (!videoWidth) return; // there is no picture yet
    const canvas = new OffscreenCanvas(videoWidth, videoHeight);
    (canvas.getContext("2d") as OffscreenCanvasRenderingContext2D).drawImage(this.video, 0, 0);
    const content = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
    this.dialog.close();
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    this.taken(new File([content], `camera-${time}.jpg`, { type: "image/jpeg" }));
  }

  /** Let the camera go, so that its light goes out. */
  private stop(): void {
    for (const track of (this.video.srcObject as MediaStream | null)?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
  }
}
